// Activations in blocks of 8-bit codes: what integer matrix products read. Not a type of files.
#pragma once

#include <cstddef>
#include <cstdint>

namespace greta {

/// Elements of a block.
inline constexpr std::int64_t kActivationBlock = 32;

/// DType::q8_f32: element i = q[i] * d. Codes are -127..127.
struct BlockQ8F32 {
  float d;
  std::int8_t q[kActivationBlock];
};
static_assert(sizeof(BlockQ8F32) == 36 && alignof(BlockQ8F32) == 4);

/// The one definition of the codes, in F32: d = max |x| / 127, q = x / d rounded half to even and held to -127..127 (d of a
/// block near the smallest numbers is coarse); of a block of zeros, or of numbers so small that d is 0, both are 0. A block
/// with an element that is not finite has d = NaN and codes 0: it is NaN as a whole, never a number that looks healthy. `cols`
/// is a multiple of 32.
void quantize_activations(const float* x, std::int64_t cols, std::byte* row);

/// q * d of every element. In double that is exact (7 + 24 bits); in float it is rounded once, half to even.
void dequantize_activations(const std::byte* row, std::int64_t cols, double* out);
void dequantize_activations(const std::byte* row, std::int64_t cols, float* out);

}  // namespace greta
