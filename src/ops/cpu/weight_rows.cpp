#include "ops/cpu/weight_rows.h"

#include "core/blocks.h"

namespace greta {

void dequantize_output(const WeightView& weight, std::int64_t row, float* out) {
  if (weight.layout == WeightLayout::row_major) return dequantize_row(weight.dtype, weight.row(row), weight.n_cols, out);
  const DTypeInfo& info = dtype_info(weight.dtype);
  float block[kSuperBlock];  // the largest block
  std::int64_t held = -1;  // index of the block in `block`: neighbours in a column share none, but a matrix may be narrow
  for (std::int64_t i = 0; i < weight.n_cols; ++i) {
    const std::int64_t flat = i * weight.n_rows + row;
    const std::int64_t index = flat / info.block_elems;
    if (index != held) dequantize_row(weight.dtype, weight.data + index * info.block_bytes, info.block_elems, block);
    held = index;
    out[i] = block[flat % info.block_elems];
  }
}

}  // namespace greta
