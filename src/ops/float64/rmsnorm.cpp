// RMSNorm in double: squares summed in order, x / sqrt(mean + eps) * weight, a group of weight.n_cols columns at a time.
#include <cmath>

#include "ops/float64/float64.h"
#include "ops/float64/rows.h"

namespace greta::float64 {

void rmsnorm(const CpuContext& context, const TensorView& x, const WeightView& weight, double eps, const TensorView& out) {
  const std::vector<double> gain = weight_row(weight, 0);
  context.pool.for_ranges(x.n_rows, (1 << 13) / x.n_cols, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r) {
      std::vector<double> row = load_row(x, r);
      for (std::size_t first = 0; first < row.size(); first += gain.size()) {
        const std::span<double> group(row.data() + first, gain.size());
        double squares = 0;
        for (const double v : group) squares += v * v;
        const double root = std::sqrt(squares / static_cast<double>(group.size()) + eps);
        for (std::size_t i = 0; i < group.size(); ++i) group[i] = group[i] / root * gain[i];
      }
      store_row(row, out, r);
    }
  });
}

}  // namespace greta::float64
