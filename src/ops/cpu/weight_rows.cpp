#include "ops/cpu/weight_rows.h"

#include "core/blocks.h"

namespace greta {

void dequantize_output(const WeightView& weight, std::int64_t row, float* out) {
  dequantize_outputs(weight, row, row + 1, out);
}

void dequantize_outputs(const WeightView& weight, std::int64_t begin, std::int64_t end, float* out) {
  if (weight.layout == WeightLayout::row_major) {
    for (std::int64_t o = begin; o < end; ++o) {
      dequantize_row(weight.dtype, weight.row(o), weight.n_cols, out + (o - begin) * weight.n_cols);
    }
    return;
  }
  const DTypeInfo& info = dtype_info(weight.dtype);
  float block[kSuperBlock];  // the largest block
  std::int64_t held = -1;    // index of the block in `block`: outputs that are neighbours lie side by side, columns far apart
  for (std::int64_t i = 0; i < weight.n_cols; ++i) {
    for (std::int64_t o = begin; o < end; ++o) {
      const std::int64_t flat = i * weight.n_rows + o;
      const std::int64_t index = flat / info.block_elems;
      if (index != held) dequantize_row(weight.dtype, weight.data + index * info.block_bytes, info.block_elems, block);
      held = index;
      out[(o - begin) * weight.n_cols + i] = block[flat % info.block_elems];
    }
  }
}

}  // namespace greta
