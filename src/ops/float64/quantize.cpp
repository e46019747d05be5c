// Activations to 8-bit blocks: the definition itself (core/activation_blocks.h), of values rounded to F32.
#include "core/activation_blocks.h"
#include "ops/float64/float64.h"
#include "ops/float64/rows.h"

namespace greta::float64 {

void quantize(const CpuContext&, const TensorView& x, const TensorView& out) {
  for (std::int64_t r = 0; r < x.n_rows; ++r) {
    const std::vector<double> row = load_row(x, r);
    const std::vector<float> rounded(row.begin(), row.end());
    quantize_activations(rounded.data(), x.n_cols, out.row(r));
  }
}

}  // namespace greta::float64
