// One pass over a row in blocks of 8 elements. The blocks are written with the compiler's vector types, so that the same source
// runs on SSE2, AVX2 and AVX-512; all of it is integer arithmetic or elementwise float64, so every instruction set gives the
// same bits (products and sums are never contracted: the build says -ffp-contract=off).
#include "trace/row_scan.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>
#include <vector>

#include "core/activation_blocks.h"
#include "core/blocks.h"
#include "core/error.h"
#include "core/fingerprint_mix.h"

namespace greta::trace {
namespace {

constexpr int kLanes = kPrintLanes;
/// Vectors of W lanes, of 64 bits but for F32, U32 and U16: as wide as the instruction set's registers. A block of 8 elements
/// is 8/W of them, and element i belongs to lane i mod 8 whatever W is. (Spelt out: g++ takes no attribute on a dependent
/// type.)
template <int W>
struct Vec;
// NOLINTBEGIN(modernize-use-using)
template <>
struct Vec<2> {
  typedef std::uint64_t U64 __attribute__((vector_size(16)));
  typedef std::int64_t I64 __attribute__((vector_size(16)));
  typedef double F64 __attribute__((vector_size(16)));
  typedef float F32 __attribute__((vector_size(8)));
  typedef std::uint32_t U32 __attribute__((vector_size(8)));
  typedef std::uint16_t U16 __attribute__((vector_size(4)));
};
template <>
struct Vec<4> {
  typedef std::uint64_t U64 __attribute__((vector_size(32)));
  typedef std::int64_t I64 __attribute__((vector_size(32)));
  typedef double F64 __attribute__((vector_size(32)));
  typedef float F32 __attribute__((vector_size(16)));
  typedef std::uint32_t U32 __attribute__((vector_size(16)));
  typedef std::uint16_t U16 __attribute__((vector_size(8)));
};
template <>
struct Vec<8> {
  typedef std::uint64_t U64 __attribute__((vector_size(64)));
  typedef std::int64_t I64 __attribute__((vector_size(64)));
  typedef double F64 __attribute__((vector_size(64)));
  typedef float F32 __attribute__((vector_size(32)));
  typedef std::uint32_t U32 __attribute__((vector_size(32)));
  typedef std::uint16_t U16 __attribute__((vector_size(16)));
};
// NOLINTEND

/// Values of W finite elements of a stored type (others give nonsense that nobody uses).
template <class Print>
struct Binary64As : Print {
  template <int W>
  using Stored = typename Vec<W>::U64;
  template <int W>
  [[gnu::always_inline]] static void values(const std::byte* data, const typename Vec<W>::U64&, typename Vec<W>::F64& out) {
    std::memcpy(&out, data, sizeof(out));
  }
};
template <class Print>
struct Binary32As : Print {
  template <int W>
  using Stored = typename Vec<W>::U32;
  template <int W>
  [[gnu::always_inline]] static void values(const std::byte* data, const typename Vec<W>::U64&, typename Vec<W>::F64& out) {
    typename Vec<W>::F32 stored;
    std::memcpy(&stored, data, sizeof(stored));
    out = __builtin_convertvector(stored, typename Vec<W>::F64);
  }
};
struct Binary16 : PrintBinary16 {
  template <int W>
  using Stored = typename Vec<W>::U16;
  template <int W>
  [[gnu::always_inline]] static void values(const std::byte*, const typename Vec<W>::U64& bits, typename Vec<W>::F64& out) {
    using U64 = typename Vec<W>::U64;
    using F64 = typename Vec<W>::F64;
    const U64 magnitude = bits & 0x7fffu;
    // Normal: exponent rebiased from 15 to 1023. Subnormal: the integer itself (2^52 + m - 2^52), times 2^-24.
    const F64 normal = reinterpret_cast<F64>((magnitude << 42) + (std::uint64_t{1008} << 52));
    const F64 subnormal = (reinterpret_cast<F64>(magnitude | 0x4330000000000000u) - 0x1p52) * 0x1p-24;
    const F64 size = magnitude < (U64{} + std::uint64_t{0x400}) ? subnormal : normal;
    out = reinterpret_cast<F64>(reinterpret_cast<U64>(size) | ((bits & 0x8000u) << 48));
  }
};
struct BFloat16 : PrintBFloat16 {
  template <int W>
  using Stored = typename Vec<W>::U16;
  template <int W>
  [[gnu::always_inline]] static void values(const std::byte*, const typename Vec<W>::U64& bits, typename Vec<W>::F64& out) {
    using U32 = typename Vec<W>::U32;
    const U32 widened = __builtin_convertvector(bits, U32) << 16;
    out = __builtin_convertvector(reinterpret_cast<typename Vec<W>::F32>(widened), typename Vec<W>::F64);
  }
};

/// Sums of W of the 8 lanes. `step_lo` and `step_hi` are the Weyl sequences at the lanes' next elements.
template <int W>
struct Lanes {
  using U64 = typename Vec<W>::U64;
  using I64 = typename Vec<W>::I64;
  using F64 = typename Vec<W>::F64;
  U64 step_lo{}, step_hi{}, lo{}, hi{};
  F64 min = F64{} + std::numeric_limits<double>::infinity();
  F64 max = F64{} - std::numeric_limits<double>::infinity();
  F64 sum{}, squares{}, abs_sum{};
  I64 finite{}, nan{}, zero{};
};

/// The next W elements of `acc`'s lanes; `live` is all ones in lanes that hold an element.
template <class Format, bool statistics, int W>
[[gnu::always_inline]] inline void add_elements(const std::byte* data, const typename Vec<W>::I64& live, Lanes<W>& acc) {
  using U64 = typename Vec<W>::U64;
  using I64 = typename Vec<W>::I64;
  using F64 = typename Vec<W>::F64;
  typename Format::template Stored<W> stored;
  std::memcpy(&stored, data, sizeof(stored));
  const U64 raw = __builtin_convertvector(stored, U64);

  constexpr std::uint64_t magnitude_mask = std::numeric_limits<typename Format::Bits>::max() >> 1;
  const U64 zeros{};
  const I64 magnitude = reinterpret_cast<I64>(raw & magnitude_mask);  // never negative: signed compares are the cheap ones
  const I64 infinity = I64{} + static_cast<std::int64_t>(Format::infinity);
  const I64 is_nan = magnitude > infinity;
  const I64 is_zero = magnitude == I64{};
  U64 bits = is_zero ? zeros : raw;
  bits = is_nan ? (zeros + std::uint64_t{Format::nan}) : bits;

  U64 lo = bits ^ acc.step_lo;
  print_mix_lo(lo);
  U64 hi = bits ^ acc.step_hi;
  print_mix_hi(hi);
  acc.lo += live ? lo : zeros;
  acc.hi += live ? hi : zeros;
  acc.step_lo += kLanes * kPrintStepLo;
  acc.step_hi += kLanes * kPrintStepHi;

  if constexpr (statistics) {
    const F64 none{};
    F64 values;
    Format::template values<W>(data, raw, values);
    const I64 is_finite = (magnitude < infinity) & live;
    const F64 x = is_finite ? values : none;
    acc.min = (is_finite & (values < acc.min)) ? values : acc.min;
    acc.max = (is_finite & (values > acc.max)) ? values : acc.max;
    acc.sum += x;
    acc.squares += x * x;
    acc.abs_sum += (x < none) ? -x : x;
    acc.finite -= is_finite;  // a true lane is -1
    acc.nan -= is_nan & live;
    acc.zero -= is_zero & live;
  }
}

double tree(const std::array<double, kLanes>& v) { return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7])); }

template <int W>
[[gnu::always_inline]] inline void reduce(const std::array<Lanes<W>, kLanes / W>& parts, std::int64_t count, bool statistics,
                                          RowScan& out) {
  std::array<double, kLanes> sum{}, squares{}, abs_sum{};
  out.min = std::numeric_limits<double>::infinity();
  out.max = -out.min;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    const Lanes<W>& part = parts[lane / W];
    const std::size_t l = lane % W;
    out.hash.lo += part.lo[l];
    out.hash.hi += part.hi[l];
    out.min = std::min<double>(out.min, part.min[l]);
    out.max = std::max<double>(out.max, part.max[l]);
    out.finite += part.finite[l];
    out.nan += part.nan[l];
    out.zero += part.zero[l];
    sum[lane] = part.sum[l];
    squares[lane] = part.squares[l];
    abs_sum[lane] = part.abs_sum[l];
  }
  if (!statistics) return;
  out.inf = count - out.finite - out.nan;
  out.sum = tree(sum);
  out.squares = tree(squares);
  out.abs_sum = tree(abs_sum);
}

template <class Format, bool statistics, int W>
[[gnu::always_inline]] inline void scan_lanes(const std::byte* data, std::int64_t count, RowScan& out) {
  constexpr std::int64_t size = sizeof(typename Format::Bits);
  constexpr std::size_t n_parts = kLanes / W;
  std::array<Lanes<W>, n_parts> parts;
  for (std::size_t lane = 0; lane < kLanes; ++lane) {
    parts[lane / W].step_lo[lane % W] = print_key_lo(lane, Format::tag);
    parts[lane / W].step_hi[lane % W] = print_key_hi(lane, Format::tag);
  }
  using I64 = typename Vec<W>::I64;
  const I64 all = I64{} - 1;
  const std::int64_t whole = count / kLanes * kLanes;
  for (std::int64_t i = 0; i < whole; i += kLanes)
    for (std::size_t p = 0; p < n_parts; ++p)
      add_elements<Format, statistics, W>(data + (i + static_cast<std::int64_t>(p) * W) * size, all, parts[p]);
  if (whole < count) {
    std::array<std::byte, kLanes * size> rest{};
    std::memcpy(rest.data(), data + whole * size, static_cast<std::size_t>((count - whole) * size));
    for (std::size_t p = 0; p < n_parts; ++p) {
      I64 live{};
      for (std::size_t l = 0; l < W; ++l) live[l] = static_cast<std::int64_t>(p * W + l) < count - whole ? -1 : 0;
      add_elements<Format, statistics, W>(rest.data() + p * W * static_cast<std::size_t>(size), live, parts[p]);
    }
  }
  reduce<W>(parts, count, statistics, out);
}

#if defined(__x86_64__) && defined(__GNUC__)
#define GRETA_TARGET_AVX512 "avx512f,avx512dq,avx512vl,avx512bw"
#if defined(__clang__)
#define GRETA_TARGET_EIGHT GRETA_TARGET_AVX512
#else  // g++ would halve the vectors
#define GRETA_TARGET_EIGHT GRETA_TARGET_AVX512 ",prefer-vector-width=512"
#endif
template <class Format, bool statistics>
[[gnu::target("avx2")]] void scan_four(const std::byte* data, std::int64_t count, RowScan& out) {
  scan_lanes<Format, statistics, 4>(data, count, out);
}
template <class Format, bool statistics>
[[gnu::target(GRETA_TARGET_EIGHT)]] void scan_eight(const std::byte* data, std::int64_t count, RowScan& out) {
  scan_lanes<Format, statistics, 8>(data, count, out);
}
bool has_four() { return __builtin_cpu_supports("avx2") != 0; }
bool has_eight() {
  return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512bw");
}
#else
template <class Format, bool statistics>
void scan_four(const std::byte* data, std::int64_t count, RowScan& out) {
  scan_lanes<Format, statistics, 4>(data, count, out);
}
template <class Format, bool statistics>
void scan_eight(const std::byte* data, std::int64_t count, RowScan& out) {
  scan_lanes<Format, statistics, 8>(data, count, out);
}
bool has_four() { return false; }
bool has_eight() { return false; }
#endif

template <class Format, bool statistics>
RowScan scan_format(const std::byte* data, std::int64_t count, ScanWidth width) {
  RowScan out;
  if (width == ScanWidth::eight) {
    scan_eight<Format, statistics>(data, count, out);
  } else if (width == ScanWidth::four) {
    scan_four<Format, statistics>(data, count, out);
  } else {
    scan_lanes<Format, statistics, 2>(data, count, out);
  }
  return out;
}

template <class Format>
RowScan scan_format(const std::byte* data, std::int64_t count, bool statistics, ScanWidth width) {
  return statistics ? scan_format<Format, true>(data, count, width) : scan_format<Format, false>(data, count, width);
}

}  // namespace

bool scan_width_supported(ScanWidth width) {
  return width == ScanWidth::two || (width == ScanWidth::four ? has_four() : has_eight());
}

RowScan scan_row(const std::byte* data, DType dtype, std::int64_t count, bool statistics, std::optional<ScanWidth> width) {
  static const ScanWidth widest = has_eight() ? ScanWidth::eight : has_four() ? ScanWidth::four : ScanWidth::two;
  const ScanWidth chosen = width.value_or(widest);
  switch (dtype) {
    case DType::f64:
      return scan_format<Binary64As<PrintBinary64>>(data, count, statistics, chosen);
    case DType::f32:
      return scan_format<Binary32As<PrintBinary32>>(data, count, statistics, chosen);
    case DType::f16:
      return scan_format<Binary16>(data, count, statistics, chosen);
    case DType::bf16:
      return scan_format<BFloat16>(data, count, statistics, chosen);
    case DType::q8_0: {
      std::vector<float> values(static_cast<std::size_t>(count));
      dequantize_row(dtype, data, count, values.data());
      return scan_format<Binary32As<PrintDequantized>>(reinterpret_cast<const std::byte*>(values.data()), count, statistics,
                                                       chosen);
    }
    case DType::q8_f32: {
      std::vector<double> values(static_cast<std::size_t>(count));
      dequantize_activations(data, count, values.data());
      return scan_format<Binary64As<PrintWidenedQ8F32>>(reinterpret_cast<const std::byte*>(values.data()), count, statistics,
                                                        chosen);
    }
    default:
      fail("fingerprint: rows of type {} are not recorded (known: f64 f32 f16 bf16 q8_0 q8_f32)", name(dtype));
  }
}

}  // namespace greta::trace
