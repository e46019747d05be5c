// RoPE by a table of turns: (a cos - b sin, b cos + a sin), each product and sum rounded; elements after n_rot are copied.
#include "ops/gpu/kernels/lane_math.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr int kThreads = 256;  // of a block

/// A thread computes pair p of its row: of every head, n_rot / 2 that turn, then the rest two by two.
template <KernelFault kFault>
GRETA_KERNEL rope_kernel(RopeArgs args, std::int64_t blocks_a_row) {
  const std::int64_t r = block_x() / blocks_a_row;
  const auto p = static_cast<int>(block_x() % blocks_a_row * kThreads + thread_id());
  const int pairs_a_head = (args.head_dim + 1) / 2;
  const int turning = args.n_rot / 2;
  const std::int64_t head = p / pairs_a_head;
  const int pair = p % pairs_a_head;
  if (head * args.head_dim >= args.x.n_cols) return;
  const float* x = reinterpret_cast<const float*>(args.x.data + r * args.x.stride) + head * args.head_dim;
  float* out = reinterpret_cast<float*>(args.out.data + r * args.out.stride) + head * args.head_dim;
  if (pair >= turning) {
    out[2 * pair] = x[2 * pair];
    if (2 * pair + 1 < args.head_dim) out[2 * pair + 1] = x[2 * pair + 1];
    return;
  }
  std::int64_t position = args.position != nullptr ? args.position[r] : r;
  if constexpr (kFault == KernelFault::narrow_position) position = static_cast<std::uint8_t>(position);
  const float* turn = args.turns + 2 * (position * turning + pair);
  const int first = args.interleaved ? 2 * pair : pair;
  const int second = args.interleaved ? 2 * pair + 1 : pair + turning;
  const float a = x[first], b = x[second], cosine = turn[0], sine = turn[1];
  out[first] = a * cosine - b * sine;
  out[second] = b * cosine + a * sine;
}

}  // namespace

void rope(Stream stream, const RopeArgs& args) {
  if (args.n_rows < 1) return;
  const std::int64_t pairs = args.x.n_cols / args.head_dim * ((args.head_dim + 1) / 2);
  const std::int64_t blocks = (pairs + kThreads - 1) / kThreads;
  const auto kernel =
      args.fault == KernelFault::narrow_position ? rope_kernel<KernelFault::narrow_position> : rope_kernel<KernelFault::none>;
  launch({"rope", stream, args.n_rows * blocks, 1, 1, kThreads}, kernel, args, blocks);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
