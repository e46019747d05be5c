// KV write: rows rounded to the cache's type, ties to even, into the slots of their tokens.
#include "ops/gpu/kernels/conversion.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

GRETA_KERNEL kv_write_kernel(KvWriteArgs args, bool aligned) {
  const auto [r, first] = my_elements(args.kv.width);
  std::byte* slot =
      args.kv.base + args.rows.sequence[r] * args.kv.sequence_stride + args.rows.position[r] * args.kv.slot_stride;
  convert_each(DType::f32, args.x.data + r * args.x.stride, args.kv.dtype, slot, first, args.kv.width, aligned);
}

}  // namespace

void kv_write(Stream stream, const KvWriteArgs& args) {
  if (args.rows.n < 1) return;
  const bool aligned =
      all_aligned(args.x.data, args.kv.base) && (args.x.stride | args.kv.sequence_stride | args.kv.slot_stride) % 16 == 0;
  launch(element_launch("kv_write", stream, args.rows.n, args.kv.width), kv_write_kernel, args, aligned);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
