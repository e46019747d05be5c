// What the two shapes of matmul_q8 share. What is computed, and in which order: ops/q8/q8.h.
#pragma once

#include "ops/gpu/kernels/q8_tile.h"
#include "ops/gpu/kernels/q8_unpack.h"

namespace greta::gpu::GRETA_GPU_TARGET {

inline constexpr int kQ8FewThreads = 128;  // at most

struct Q8Operands {
  const std::byte* x;  // blocks of core/activation_blocks.h
  const std::byte* weight;
  std::byte* out;
  const float* bias;                             // or null
  std::int64_t x_stride, row_bytes, out_stride;  // bytes; row_bytes: of the weight
  std::int64_t n_slices;                         // of 32 inputs
  std::int64_t n_out;
  int n_rows;
};

GRETA_DEVICE void store_q8(const Q8Operands& p, std::int64_t row, std::int64_t output, float sum) {
  if (p.bias != nullptr) sum += p.bias[output];
  reinterpret_cast<float*>(p.out + row * p.out_stride)[output] = sum;
}

/// A sum as it is kept between two terms.
template <KernelFault kFault>
GRETA_DEVICE float held(float sum) {
  if constexpr (kFault == KernelFault::f16_accumulation) return through_half(sum);
  return sum;
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
