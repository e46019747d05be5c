// Embedding: a row of the table, dequantised exactly; then one product with the scale, unless that is 1.
#include "ops/gpu/kernels/lane_weights.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr int kThreads = 128;  // of a block, 16 a unit

template <DType kType>
GRETA_KERNEL embed_kernel(EmbedArgs args, std::int64_t row_size, std::int64_t units, std::int64_t blocks_a_row) {
  const std::int64_t r = block_x() / blocks_a_row;
  const std::int64_t unit = block_x() % blocks_a_row * (kThreads / kLanes) + thread_id() / kLanes;
  const int l = thread_id() % kLanes;
  if (unit >= units) return;
  const std::int64_t token = args.tokens[r];
  float w[kUnitGroups<kType>];
  if (args.table.transposed) {
    const std::int64_t i = unit * kLanes + l;
    w[0] = kUnitGroups<kType> == 1 && i < args.table.n_cols ? load_number(kType, args.table.data, i * args.table.n_rows + token)
                                                            : 0.0f;
  } else {
    load_unit<kType>(args.table.data + token * row_size, unit, l, args.table.n_cols, w);
  }
  auto* out = reinterpret_cast<float*>(args.out.data + r * args.out.stride);
  GRETA_UNROLL
  for (int g = 0; g < kUnitGroups<kType>; ++g) {
    const std::int64_t i = (unit * kUnitGroups<kType> + g) * kLanes + l;
    if (i < args.table.n_cols) out[i] = args.scale == 1.0f ? w[g] : w[g] * args.scale;
  }
}

}  // namespace

void embed(Stream stream, const EmbedArgs& args) {
  if (args.n_rows < 1) return;
  with_weight_type("embed", args.table.dtype, [&](auto type) {
    constexpr std::int64_t kElements = kUnitGroups<type()> * kLanes;
    const std::int64_t units = (args.table.n_cols + kElements - 1) / kElements;
    const std::int64_t blocks = (units + kThreads / kLanes - 1) / (kThreads / kLanes);
    launch({"embed", stream, args.n_rows * blocks, 1, 1, kThreads}, embed_kernel<type()>, args,
           row_bytes(args.table.dtype, args.table.n_cols), units, blocks);
  });
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
