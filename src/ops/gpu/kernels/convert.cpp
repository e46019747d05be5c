// Elements of one plain type to another: f32, f16 and bf16, ties to even.
#include "ops/gpu/kernels/conversion.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

GRETA_KERNEL convert_kernel(ConvertArgs args, bool aligned) {
  const auto [r, first] = my_elements(args.x.n_cols);
  convert_each(args.x.dtype, args.x.data + r * args.x.stride, args.out.dtype, args.out.data + r * args.out.stride, first,
               args.x.n_cols, aligned);
}

}  // namespace

void convert(Stream stream, const ConvertArgs& args) {
  if (args.n_rows < 1) return;
  const bool aligned = all_aligned(args.x.data, args.out.data) && (args.x.stride | args.out.stride) % 16 == 0;
  launch(element_launch("convert", stream, args.n_rows, args.x.n_cols), convert_kernel, args, aligned);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
