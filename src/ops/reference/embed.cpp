// Embedding: a row of the table, dequantised exactly; then one product with F32(scale), unless that is 1.
#include <vector>

#include "ops/cpu/weight_rows.h"
#include "ops/reference/reference.h"

namespace greta::reference {

void embed(const CpuContext&, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
           const TensorView& out) {
  const auto factor = static_cast<float>(scale);
  for (std::int64_t r = 0; r < out.n_rows; ++r) {
    dequantize_output(table, tokens[static_cast<std::size_t>(r)], out.row_as<float>(r));
    if (factor == 1.0f) continue;
    for (std::int64_t i = 0; i < out.n_cols; ++i) out.row_as<float>(r)[i] *= factor;
  }
}

}  // namespace greta::reference
