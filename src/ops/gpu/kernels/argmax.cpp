// The id of the largest logit of each row.
#include "ops/gpu/kernels/largest.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr int kThreads = 1024;

GRETA_KERNEL_OF(kThreads, 1) argmax_kernel(ArgmaxArgs args) {
  auto& parts = *reinterpret_cast<Largest(*)[kLargestParts]>(shared_memory());
  const auto* logits = reinterpret_cast<const float*>(args.logits.data + block_x() * args.logits.stride);
  const Largest best = largest_of_block(largest_of(logits, thread_id(), args.logits.n_cols, kThreads), parts);
  if (thread_id() == 0) args.ids[block_x()] = best.id;
}

}  // namespace

void argmax(Stream stream, const ArgmaxArgs& args) {
  if (args.n_rows == 0) return;
  launch({.name = "argmax", .stream = stream, .x = args.n_rows, .threads = kThreads, .shared = kLargestParts * sizeof(Largest)},
         argmax_kernel, args);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
