// Matrix product and embedding in double: inputs in order, one product and one sum after the other.
#include "ops/cpu/weight_rows.h"
#include "ops/float64/float64.h"
#include "ops/float64/rows.h"

namespace greta::float64 {

std::vector<double> weight_row(const WeightView& weight, std::int64_t row) {
  std::vector<float> values(static_cast<std::size_t>(weight.n_cols));
  dequantize_output(weight, row, values.data());
  return {values.begin(), values.end()};
}

namespace {

/// out[r] = sum_i x[r][i] * w[i] for kRows rows of `n` inputs: independent chains, each in order.
template <int kRows>
void dot(const double* x, const double* w, std::int64_t n, double* out) {
  double sum[kRows] = {};
  for (std::int64_t i = 0; i < n; ++i) {
    for (int r = 0; r < kRows; ++r) sum[r] += x[r * n + i] * w[i];
  }
  for (int r = 0; r < kRows; ++r) out[r] = sum[r];
}

void store_value(double value, const TensorView& out, std::int64_t r, std::int64_t o) {
  convert_row(DType::f64, reinterpret_cast<const std::byte*>(&value), 1, out.dtype, out.row(r) + row_bytes(out.dtype, o));
}

}  // namespace

void embed(const CpuContext&, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
           const TensorView& out) {
  for (std::int64_t r = 0; r < out.n_rows; ++r) {
    std::vector<double> row = weight_row(table, tokens[static_cast<std::size_t>(r)]);
    for (double& value : row) value *= scale;
    store_row(row, out, r);
  }
}

void matmul(const CpuContext& context, const TensorView& x, const WeightView& weight, const WeightView& bias,
            const TensorView& out) {
  const std::int64_t n = weight.n_cols;
  const std::vector<double> inputs = load_rows(x);
  const std::vector<double> offsets = bias ? weight_row(bias, 0) : std::vector<double>();
  constexpr std::int64_t kGrainWork = 1 << 14;  // multiply-adds a chunk, at least
  context.pool.for_ranges(weight.n_rows, kGrainWork / (n * x.n_rows), [&](std::int64_t begin, std::int64_t end) {
    std::vector<double> dots(static_cast<std::size_t>(x.n_rows));
    for (std::int64_t o = begin; o < end; ++o) {
      const std::vector<double> w = weight_row(weight, o);
      std::int64_t r = 0;
      for (; r + 8 <= x.n_rows; r += 8) dot<8>(inputs.data() + r * n, w.data(), n, dots.data() + r);
      for (; r < x.n_rows; ++r) dot<1>(inputs.data() + r * n, w.data(), n, dots.data() + r);
      for (r = 0; r < x.n_rows; ++r) {
        const double sum = dots[static_cast<std::size_t>(r)];
        store_value(bias ? sum + offsets[static_cast<std::size_t>(o)] : sum, out, r, o);
      }
    }
  });
}

}  // namespace greta::float64
