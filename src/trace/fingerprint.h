// Fingerprint of a row: says whether two rows are equal (hash), how much they differ (sketch) and where (slice).
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/tensor.h"
#include "trace/record.h"

namespace greta {

/// Buckets of the count-sketch (Charikar, Chen & Farach-Colton 2002). The squared norm of the difference of two sketches
/// estimates the squared norm of the difference of the rows with relative standard deviation sqrt(2/64) = 18 %.
inline constexpr int kSketchWidth = 64;

struct FingerprintOptions {
  std::int64_t sample = 1024;  // elements of the slice, from the start
  bool sketch = true;
  bool statistics = true;
};

/// Of `count` consecutive elements of dtype f64, f32, f16 or bf16.
/// hash: sum mod 2^128 over all elements of mix(index, bits), order-free; -0 counts as +0 and all NaNs as one.
Fingerprint fingerprint(const std::byte* data, DType dtype, std::int64_t count, const FingerprintOptions& options);

/// The hash alone.
Hash128 row_hash(const std::byte* data, DType dtype, std::int64_t count);

/// 32 hexadecimal digits, high word first; and back (nullopt where it is not that).
std::string to_hex(const Hash128& hash);
std::optional<Hash128> hash_from_hex(std::string_view hex);

}  // namespace greta
