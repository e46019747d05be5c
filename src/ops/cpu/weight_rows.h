// Rows of a weight matrix as floats, in whatever layout its bytes lie.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace greta {

/// The n_cols weights of output `row` of `weight`, exactly. In layout `transposed` the same bytes are read as the column-major
/// form of the same logical shape, W[o][i] = flat[i * n_rows + o], element by element: correct, not fast.
void dequantize_output(const WeightView& weight, std::int64_t row, float* out);

}  // namespace greta
