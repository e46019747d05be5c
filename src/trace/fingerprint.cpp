// One pass over a row in blocks of 8 elements. The blocks are written with the compiler's vector types, so that the same source
// runs on SSE2, AVX2 and AVX-512; all of it is integer arithmetic or elementwise float64, so every instruction set gives the
// same bits (products and sums are never contracted: the build says -ffp-contract=off).
#include "trace/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "core/error.h"
#include "core/half.h"

namespace greta {
namespace {

constexpr int kLanes = 8;
// NOLINTBEGIN(modernize-use-using): vector_size needs the attribute on the type itself
using U64 = std::uint64_t __attribute__((vector_size(64)));
using I64 = std::int64_t __attribute__((vector_size(64)));
using F64 = double __attribute__((vector_size(64)));
// NOLINTEND

// Weyl steps and multipliers: lo uses the constants of MurmurHash3's 64-bit finaliser, hi those of SplitMix64 (Steele, Lea &
// Flood 2014) with another Weyl step, so that the two sums share nothing.
constexpr std::uint64_t kStepLo = 0x9e3779b97f4a7c15u, kStepHi = 0xd1342543de82ef95u;
constexpr std::uint64_t kMul1Lo = 0xff51afd7ed558ccdu, kMul2Lo = 0xc4ceb9fe1a85ec53u;
constexpr std::uint64_t kMul1Hi = 0xbf58476d1ce4e5b9u, kMul2Hi = 0x94d049bb133111ebu;
constexpr std::uint64_t kTagLo = 0x2545f4914f6cdd1du, kTagHi = 0xa0761d6478bd642fu;
constexpr std::uint64_t kSketchSeed = 0x6772657461303431u;

/// How a stored type spells zero, NaN and infinity.
struct Binary64 {
  using Bits = std::uint64_t;
  static constexpr DType dtype = DType::f64;
  static constexpr Bits infinity = 0x7ff0000000000000u, nan = 0x7ff8000000000000u;
  static double value(Bits b) { return std::bit_cast<double>(b); }
};
struct Binary32 {
  using Bits = std::uint32_t;
  static constexpr DType dtype = DType::f32;
  static constexpr Bits infinity = 0x7f800000u, nan = 0x7fc00000u;
  static double value(Bits b) { return static_cast<double>(std::bit_cast<float>(b)); }
};
struct Binary16 {
  using Bits = std::uint16_t;
  static constexpr DType dtype = DType::f16;
  static constexpr Bits infinity = 0x7c00u, nan = 0x7e00u;
  static double value(Bits b) { return static_cast<double>(f16_to_f32(b)); }
};
struct BFloat16 {
  using Bits = std::uint16_t;
  static constexpr DType dtype = DType::bf16;
  static constexpr Bits infinity = 0x7f80u, nan = 0x7fc0u;
  static double value(Bits b) { return static_cast<double>(bf16_to_f32(b)); }
};

/// What one pass gathers.
struct Scan {
  Hash128 hash;
  double min = 0, max = 0, sum = 0, squares = 0, abs_sum = 0;
  std::int64_t finite = 0, nan = 0, inf = 0, zero = 0;
};

struct Lanes {
  U64 lo{}, hi{};
  F64 min = F64{} + std::numeric_limits<double>::infinity();
  F64 max = F64{} - std::numeric_limits<double>::infinity();
  F64 sum{}, squares{}, abs_sum{};
  I64 finite{}, nan{}, zero{};
};

[[gnu::always_inline]] inline double tree(const F64& v) {
  return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
}

template <class Format>
[[gnu::always_inline]] inline void load(const std::byte* data, U64& bits, F64& values, bool want_values) {
  using Bits = typename Format::Bits;
  std::array<Bits, kLanes> stored;
  std::memcpy(stored.data(), data, sizeof(stored));
  for (int l = 0; l < kLanes; ++l) bits[l] = stored[static_cast<std::size_t>(l)];
  if (!want_values) return;
  for (int l = 0; l < kLanes; ++l) values[l] = Format::value(stored[static_cast<std::size_t>(l)]);
}

/// `live`: all ones in lanes that hold an element. `index` is that of each lane plus 1.
template <class Format, bool statistics>
[[gnu::always_inline]] inline void add_block(const U64& raw, const F64& values, const U64& index, const I64& live, Lanes& acc) {
  constexpr std::uint64_t magnitude_mask = std::numeric_limits<typename Format::Bits>::max() >> 1;
  constexpr std::uint64_t infinity = Format::infinity;
  constexpr std::uint64_t tag = static_cast<std::uint64_t>(Format::dtype) + 1;
  const U64 zeros{};
  const U64 magnitude = raw & magnitude_mask;
  const I64 is_nan = magnitude > (zeros + infinity);
  const I64 is_zero = magnitude == zeros;
  U64 bits = is_zero ? zeros : raw;
  bits = is_nan ? (zeros + std::uint64_t{Format::nan}) : bits;

  U64 lo = bits ^ (index * kStepLo + tag * kTagLo);
  lo = (lo ^ (lo >> 33)) * kMul1Lo;
  lo = (lo ^ (lo >> 33)) * kMul2Lo;
  lo = lo ^ (lo >> 33);
  U64 hi = bits ^ (index * kStepHi + tag * kTagHi);
  hi = (hi ^ (hi >> 30)) * kMul1Hi;
  hi = (hi ^ (hi >> 27)) * kMul2Hi;
  hi = hi ^ (hi >> 31);
  acc.lo += live ? lo : zeros;
  acc.hi += live ? hi : zeros;

  if constexpr (statistics) {
    const F64 none{};
    const I64 is_finite = (magnitude < (zeros + infinity)) & live;
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

template <class Format, bool statistics>
[[gnu::always_inline]] inline void scan_rows(const std::byte* data, std::int64_t count, Scan& out) {
  constexpr auto size = static_cast<std::int64_t>(sizeof(typename Format::Bits));
  Lanes acc;
  U64 index{1, 2, 3, 4, 5, 6, 7, 8};
  const I64 all = I64{} - 1;
  U64 bits{};
  F64 values{};
  const std::int64_t whole = count / kLanes * kLanes;
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    load<Format>(data + i * size, bits, values, statistics);
    add_block<Format, statistics>(bits, values, index, all, acc);
    index += kLanes;
  }
  if (whole < count) {
    std::array<std::byte, kLanes * sizeof(typename Format::Bits)> rest{};
    std::memcpy(rest.data(), data + whole * size, static_cast<std::size_t>((count - whole) * size));
    load<Format>(rest.data(), bits, values, statistics);
    const I64 live = index <= (U64{} + static_cast<std::uint64_t>(count));
    add_block<Format, statistics>(bits, values, index, live, acc);
  }
  for (int l = 0; l < kLanes; ++l) {
    out.hash.lo += acc.lo[l];
    out.hash.hi += acc.hi[l];
  }
  if constexpr (statistics) {
    out.min = acc.min[0];
    out.max = acc.max[0];
    for (int l = 0; l < kLanes; ++l) {
      out.min = std::min<double>(out.min, acc.min[l]);
      out.max = std::max<double>(out.max, acc.max[l]);
      out.finite += acc.finite[l];
      out.nan += acc.nan[l];
      out.zero += acc.zero[l];
    }
    out.inf = count - out.finite - out.nan;
    out.sum = tree(acc.sum);
    out.squares = tree(acc.squares);
    out.abs_sum = tree(acc.abs_sum);
  }
}

using ScanFn = void (*)(const std::byte*, std::int64_t, Scan&);

template <class Format, bool statistics>
void scan_portable(const std::byte* data, std::int64_t count, Scan& out) {
  scan_rows<Format, statistics>(data, count, out);
}

#if defined(__x86_64__) && defined(__GNUC__)
template <class Format, bool statistics>
[[gnu::target("avx2")]] void scan_avx2(const std::byte* data, std::int64_t count, Scan& out) {
  scan_rows<Format, statistics>(data, count, out);
}
template <class Format, bool statistics>
[[gnu::target("avx512f,avx512dq,avx512vl,avx512bw,prefer-vector-width=512")]] void scan_avx512(const std::byte* data,
                                                                                               std::int64_t count, Scan& out) {
  scan_rows<Format, statistics>(data, count, out);
}
template <class Format, bool statistics>
ScanFn choose_scan() {
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512bw"))
    return scan_avx512<Format, statistics>;
  if (__builtin_cpu_supports("avx2")) return scan_avx2<Format, statistics>;
  return scan_portable<Format, statistics>;
}
#else
template <class Format, bool statistics>
ScanFn choose_scan() {
  return scan_portable<Format, statistics>;
}
#endif

template <class Format, bool statistics>
Scan scan(const std::byte* data, std::int64_t count) {
  static const ScanFn chosen = choose_scan<Format, statistics>();
  Scan out;
  chosen(data, count, out);
  return out;
}

/// Calls f(Format{}) for the dtype.
template <class F>
auto with_format(DType dtype, F&& f) {
  switch (dtype) {
    case DType::f64:
      return f(Binary64{});
    case DType::f32:
      return f(Binary32{});
    case DType::f16:
      return f(Binary16{});
    case DType::bf16:
      return f(BFloat16{});
    default:
      fail("fingerprint: rows of dtype {} have no elements of their own; dequantise them first (known: f64 f32 f16 bf16)",
           name(dtype));
  }
}

template <class Format>
double element(const std::byte* data, std::int64_t index) {
  typename Format::Bits bits;
  std::memcpy(&bits, data + index * static_cast<std::int64_t>(sizeof(bits)), sizeof(bits));
  return Format::value(bits);
}

/// Where the plain sum of squares overflowed (only float64 rows can): scaled by the largest magnitude.
template <class Format>
double scaled_rms(const std::byte* data, std::int64_t count, double largest, std::int64_t finite) {
  double squares = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double x = element<Format>(data, i) / largest;
    if (std::isfinite(x)) squares += x * x;
  }
  return largest * std::sqrt(squares / static_cast<double>(finite));
}

template <class Format>
Fingerprint print_of(const std::byte* data, std::int64_t count, const FingerprintOptions& options) {
  Fingerprint print;
  print.count = count;
  const Scan found = options.statistics ? scan<Format, true>(data, count) : scan<Format, false>(data, count);
  print.hash = found.hash;
  print.nan = found.nan;
  print.inf = found.inf;
  print.zero = found.zero;
  if (found.finite > 0) {
    const auto n = static_cast<double>(found.finite);
    print.min = found.min;
    print.max = found.max;
    print.mean = found.sum / n;
    print.abs_sum = found.abs_sum;
    print.rms = std::isfinite(found.squares)
                    ? std::sqrt(found.squares / n)
                    : scaled_rms<Format>(data, count, std::max(std::abs(found.min), std::abs(found.max)), found.finite);
  }
  const auto kept = static_cast<std::size_t>(std::clamp<std::int64_t>(options.sample, 0, count));
  print.sample.resize(kept);
  for (std::size_t i = 0; i < kept; ++i) print.sample[i] = element<Format>(data, static_cast<std::int64_t>(i));
  if (options.sketch) {
    print.sketch.assign(kSketchWidth, 0.0);
    for (std::int64_t i = 0; i < count; ++i) {
      const double x = element<Format>(data, i);
      if (!std::isfinite(x)) continue;
      const SketchPlace place = sketch_place(i);
      print.sketch[static_cast<std::size_t>(place.bucket)] += place.sign * x;
    }
  }
  return print;
}

}  // namespace

SketchPlace sketch_place(std::int64_t index) {
  std::uint64_t z = kSketchSeed + (static_cast<std::uint64_t>(index) + 1) * kStepLo;
  z = (z ^ (z >> 30)) * kMul1Hi;
  z = (z ^ (z >> 27)) * kMul2Hi;
  z ^= z >> 31;
  return {static_cast<int>(z % kSketchWidth), (z >> 63) != 0 ? -1.0 : 1.0};
}

Fingerprint fingerprint(const std::byte* data, DType dtype, std::int64_t count, const FingerprintOptions& options) {
  return with_format(dtype, [&](auto format) { return print_of<decltype(format)>(data, count, options); });
}

Hash128 row_hash(const std::byte* data, DType dtype, std::int64_t count) {
  return with_format(dtype, [&](auto format) { return scan<decltype(format), false>(data, count).hash; });
}

Fingerprint fingerprint_of_slice(std::span<const double> slice, const FingerprintOptions& options) {
  Fingerprint print = fingerprint(reinterpret_cast<const std::byte*>(slice.data()), DType::f64,
                                  static_cast<std::int64_t>(slice.size()), options);
  print.whole_row = false;
  return print;
}

std::string to_hex(const Hash128& hash) { return fmt::format("{:016x}{:016x}", hash.hi, hash.lo); }

std::optional<Hash128> hash_from_hex(std::string_view hex) {
  if (hex.size() != 32) return std::nullopt;
  std::array<std::uint64_t, 2> words{};
  for (std::size_t i = 0; i < hex.size(); ++i) {
    const char c = hex[i];
    std::uint64_t digit = 0;
    if (c >= '0' && c <= '9') {
      digit = static_cast<std::uint64_t>(c - '0');
    } else if (c >= 'a' && c <= 'f') {
      digit = static_cast<std::uint64_t>(c - 'a') + 10;
    } else if (c >= 'A' && c <= 'F') {
      digit = static_cast<std::uint64_t>(c - 'A') + 10;
    } else {
      return std::nullopt;
    }
    words[i / 16] = (words[i / 16] << 4) | digit;
  }
  return Hash128{words[1], words[0]};
}

}  // namespace greta
