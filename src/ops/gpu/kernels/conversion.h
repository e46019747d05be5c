// Rows of numbers rounded to another type: what convert, kv_write and quantize share.
#pragma once

#include "ops/gpu/kernels/elements.h"

namespace greta::gpu::GRETA_GPU_TARGET {

/// Elements first.. of a row of n from one type to another, as core/half.h rounds. `aligned`: both rows begin at multiples
/// of 16.
GRETA_DEVICE void convert_each(DType from, const std::byte* in, DType to, std::byte* out, std::int64_t first, std::int64_t n,
                               bool aligned) {
  if (aligned && from == DType::f32 && to != DType::f32 && first + kElementsEach <= n) {
    const Words words = load_words(in + first * 4);
    std::uint64_t packed = 0;
    GRETA_UNROLL
    for (int i = 0; i < kElementsEach; ++i) {
      const float value = float_of(words.w[i]);
      const std::uint16_t word = to == DType::f16 ? float_to_half(value) : float_to_bfloat(value);
      packed |= static_cast<std::uint64_t>(word) << (16 * i);
    }
    *reinterpret_cast<std::uint64_t*>(out + first * 2) = packed;
    return;
  }
  GRETA_UNROLL
  for (int i = 0; i < kElementsEach; ++i) {
    if (first + i < n) store_number(to, out, first + i, load_number(from, in, first + i));
  }
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
