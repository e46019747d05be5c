// Operands of the matmul kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace greta::reference {

/// out[r][o] = x[r] . weight[o] + bias[o], for outputs [begin, end).
struct MatmulArgs {
  const float* const* x;  // n_rows pointers to n_in floats
  float* const* out;      // n_rows pointers to outputs
  const float* bias;      // an entry an output, or null
  std::int64_t n_rows;
  std::int64_t n_in;
  DType dtype;              // of the weights
  const std::byte* weight;  // row `begin`
  std::int64_t stride;      // bytes from one output's weights to the next
  std::int64_t begin;
  std::int64_t end;
};

/// Many rows are computed in blocks: kBlockRows rows by kBlockOuts outputs by kBlockIns inputs, whose dequantised weights
/// (128 KiB) and unfinished sums (192 KiB) stay in a second-level cache while a panel of inputs stays in the first.
inline constexpr std::int64_t kBlockRows = 96;
inline constexpr std::int64_t kBlockOuts = 32;
inline constexpr std::int64_t kBlockIns = 1024;
/// Floats of scratch that a block takes: weights, then 16 lanes a sum.
inline constexpr std::int64_t kBlockScratch = kBlockOuts * kBlockIns + kBlockRows * kBlockOuts * 16;

}  // namespace greta::reference
