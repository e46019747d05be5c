// Rows of a weight matrix as floats, in whatever layout its bytes lie.
#pragma once

#include <cstdint>

#include "core/tensor.h"

namespace greta {

/// The n_cols weights of output `row` of `weight`, exactly. In layout `transposed` the same bytes are read as the column-major
/// form of the same logical shape, W[o][i] = flat[i * n_rows + o], element by element: correct, not fast.
void dequantize_output(const WeightView& weight, std::int64_t row, float* out);

/// Outputs [begin, end), n_cols weights each, one after the other: of a `transposed` matrix every block is read once, not once
/// an output.
void dequantize_outputs(const WeightView& weight, std::int64_t begin, std::int64_t end, float* out);

}  // namespace greta
