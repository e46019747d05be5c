// Operands of the matmul kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/tensor.h"

namespace greta::reference {

/// out[r][o] = x[r] . weight[o] + bias[o].
struct MatmulArgs {
  const float* const* x;  // n_rows pointers to n_in floats
  float* const* out;      // n_rows pointers to n_out floats
  const float* bias;      // n_out floats, or null
  std::int64_t n_rows;
  std::int64_t n_in;
};

}  // namespace greta::reference
