#include "trace/fingerprint.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/activation_blocks.h"
#include "core/blocks.h"
#include "core/half.h"
#include "trace/fingerprint_parts.h"
#include "trace/row_scan.h"

namespace greta {
namespace {

template <class Bits>
Bits bits_at(const std::byte* data, std::int64_t index) {
  Bits bits;
  std::memcpy(&bits, data + index * static_cast<std::int64_t>(sizeof(bits)), sizeof(bits));
  return bits;
}

/// Element `index` as float64, exactly.
double element(const std::byte* data, DType dtype, std::int64_t index) {
  switch (dtype) {
    case DType::f64:
      return std::bit_cast<double>(bits_at<std::uint64_t>(data, index));
    case DType::f16:
      return static_cast<double>(f16_to_f32(bits_at<std::uint16_t>(data, index)));
    case DType::bf16:
      return static_cast<double>(bf16_to_f32(bits_at<std::uint16_t>(data, index)));
    default:
      return static_cast<double>(std::bit_cast<float>(bits_at<std::uint32_t>(data, index)));
  }
}

/// Where the plain sum of squares over- or underflowed (only float64 rows can): scaled by the largest magnitude.
double scaled_rms(const std::byte* data, DType dtype, std::int64_t count, double largest, std::int64_t finite) {
  double squares = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const double x = element(data, dtype, i) / largest;
    if (std::isfinite(x)) squares += x * x;
  }
  return largest * std::sqrt(squares / static_cast<double>(finite));
}

std::vector<double> sketch_of(const std::byte* data, DType dtype, std::int64_t count) {
  std::vector<double> sketch(kSketchWidth, 0.0);
  for (std::int64_t i = 0; i < count; ++i) {
    const double x = element(data, dtype, i);
    if (!std::isfinite(x)) continue;
    const SketchPlace place = sketch_place(i);
    sketch[static_cast<std::size_t>(place.bucket)] += place.sign * x;
  }
  return sketch;
}

}  // namespace

Fingerprint finish_fingerprint(const RowSums& found, std::int64_t count, std::vector<double> sample,
                               std::vector<double> sketch) {
  Fingerprint print;
  print.hash = found.hash;
  print.count = count;
  print.nan = found.nan;
  print.inf = found.inf;
  print.zero = found.zero;
  if (found.finite > 0) {
    const auto n = static_cast<double>(found.finite);
    print.min = found.min;
    print.max = found.max;
    print.mean = found.sum / n;
    print.abs_sum = found.abs_sum;
    print.rms = std::sqrt(found.squares / n);
  }
  print.sample = std::move(sample);
  print.sketch = std::move(sketch);
  return print;
}

Fingerprint fingerprint(const std::byte* data, DType dtype, std::int64_t count, const FingerprintOptions& options) {
  const trace::RowScan found = trace::scan_row(data, dtype, count, options.statistics);
  std::vector<double> widened;  // single elements cannot be read out of a block
  std::vector<float> dequantized;
  if (dtype == DType::q8_f32) {
    widened.resize(static_cast<std::size_t>(count));
    dequantize_activations(data, count, widened.data());
    data = reinterpret_cast<const std::byte*>(widened.data());
    dtype = DType::f64;
  } else if (dtype_info(dtype).block_elems > 1) {
    dequantized.resize(static_cast<std::size_t>(count));
    dequantize_row(dtype, data, count, dequantized.data());
    data = reinterpret_cast<const std::byte*>(dequantized.data());
    dtype = DType::f32;
  }
  const auto kept = static_cast<std::size_t>(std::clamp<std::int64_t>(options.sample, 0, count));
  std::vector<double> sample(kept);
  for (std::size_t i = 0; i < kept; ++i) sample[i] = element(data, dtype, static_cast<std::int64_t>(i));
  Fingerprint print = finish_fingerprint(found, count, std::move(sample),
                                         options.sketch ? sketch_of(data, dtype, count) : std::vector<double>{});
  const double largest = std::max(std::abs(print.min), std::abs(print.max));
  const bool in_range = std::isfinite(found.squares) && (found.squares > 1e-280 || largest == 0);
  if (found.finite > 0 && !in_range) print.rms = scaled_rms(data, dtype, count, largest, found.finite);
  return print;
}

Hash128 row_hash(const std::byte* data, DType dtype, std::int64_t count) {
  return trace::scan_row(data, dtype, count, false).hash;
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
