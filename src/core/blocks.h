// The one definition of what the bytes of weights mean: block formats, exact dequantisation, reference quantisation.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace greta {

/// 32 elements; element i = q[i] * d, with d in binary16. GGML type Q8_0.
struct BlockQ8_0 {
  std::uint16_t d;
  std::int8_t q[32];
};
static_assert(sizeof(BlockQ8_0) == 34 && alignof(BlockQ8_0) == 2);

/// 32 elements; byte i holds element i in its low nibble and element i + 16 in its high one; element = (nibble - 8) * d, with d
/// in binary16. GGML type Q4_0.
struct BlockQ4_0 {
  std::uint16_t d;
  std::uint8_t q[16];
};
static_assert(sizeof(BlockQ4_0) == 18 && alignof(BlockQ4_0) == 2);

/// Writes `cols` elements of a row to `out`. Exact: a binary16 scale (11 bits) times an 8-bit integer fits in binary32.
/// `dtype` is f32, f16, bf16, q8_0 or q4_0 (throws Error for f64); `cols` is a multiple of its block; `row` is aligned to 2
/// bytes for the 16-bit and block types and to 4 for f32.
void dequantize_row(DType dtype, const std::byte* row, std::int64_t cols, float* out);

/// The reverse, by the format's reference definition, to the nearest code:
/// q8_0: d = max|x| / 127, q = x / d rounded half away from zero (as x * (1 / d) in F32);
/// q4_0: d = m / -8 where m is the element of largest magnitude (the first of equals), q = min(15, trunc(x * (1 / d) + 8.5));
/// f16, bf16: nearest, ties to even. The codes are made with d in F32; d is then rounded to binary16.
/// `in` is finite. A block too small for 1 / d to be finite becomes zeros (its d rounds to 0 in binary16 in any case).
void quantize_row_reference(DType dtype, const float* in, std::int64_t cols, std::byte* row);

}  // namespace greta
