// Activations as rows of doubles, whatever their storage.
#pragma once

#include <cstdint>
#include <vector>

#include "core/tensor.h"
#include "ops/cpu/convert.h"

namespace greta::float64 {

/// Row r of x, widened exactly.
inline std::vector<double> load_row(const TensorView& x, std::int64_t r) {
  std::vector<double> row(static_cast<std::size_t>(x.cols(r)));
  widen_row(x.dtype, x.row(r), x.cols(r), row.data());
  return row;
}

/// All rows of x, one after the other: [n_rows, n_cols].
inline std::vector<double> load_rows(const TensorView& x) {
  std::vector<double> rows(static_cast<std::size_t>(x.n_rows * x.n_cols));
  for (std::int64_t r = 0; r < x.n_rows; ++r) widen_row(x.dtype, x.row(r), x.n_cols, rows.data() + r * x.n_cols);
  return rows;
}

/// `row` stored from element `first` of row r on, rounded to the storage of `out`.
inline void store_row(const std::vector<double>& row, const TensorView& out, std::int64_t r, std::int64_t first = 0) {
  convert_row(DType::f64, reinterpret_cast<const std::byte*>(row.data()), static_cast<std::int64_t>(row.size()), out.dtype,
              out.row(r) + row_bytes(out.dtype, first));
}

/// The n_cols weights of output `row`, exactly.
std::vector<double> weight_row(const WeightView& weight, std::int64_t row);

}  // namespace greta::float64
