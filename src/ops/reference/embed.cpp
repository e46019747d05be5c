// Embedding: a row of the table, dequantised exactly.
#include <vector>

#include "ops/cpu/weight_rows.h"
#include "ops/reference/reference.h"

namespace greta::reference {

void embed(const CpuContext&, const WeightView& table, std::span<const std::int32_t> tokens, const TensorView& out) {
  for (std::int64_t r = 0; r < out.n_rows; ++r) {
    dequantize_output(table, tokens[static_cast<std::size_t>(r)], out.row_as<float>(r));
  }
}

}  // namespace greta::reference
