// Activations to 8-bit blocks, as core/activation_blocks.h defines them, a thread an element; or rounded to f16 or bf16.
#include "ops/gpu/kernels/numbers.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr int kThreads = 256;  // of a block

/// The largest of 32 neighbouring threads' values, in all of them; no value is NaN.
GRETA_DEVICE float block_max(float value) {
  GRETA_UNROLL
  for (int mask = static_cast<int>(kActivationBlock) / 2; mask > 0; mask /= 2) {
    const float other = shuffle_xor(value, mask);
    value = other > value ? other : value;
  }
  return value;
}

/// x / d, rounded half to even and held to -127..127.
GRETA_DEVICE std::int8_t code_of(float x, float d) {
  float y = x / d;
  y = y > 127.0f ? 127.0f : y;
  y = -127.0f > y ? -127.0f : y;
  return static_cast<std::int8_t>(lane_round_even(y));
}

GRETA_KERNEL quantize_kernel(QuantizeArgs args, std::int64_t blocks_a_row) {
  const std::int64_t r = block_x() / blocks_a_row;
  const std::int64_t i = block_x() % blocks_a_row * kThreads + thread_id();
  const bool inside = i < args.x.n_cols;  // the same for all 32 of a block
  const float x = inside ? reinterpret_cast<const float*>(args.x.data + r * args.x.stride)[i] : 0.0f;
  const float size = float_of(bits_of(x) & 0x7fffffffu);
  const bool finite = bits_of(size) < 0x7f800000u;
  const float largest = block_max(finite ? size : float_of(0x7f800000u));
  const bool healthy = bits_of(largest) < 0x7f800000u;
  const float d = healthy ? largest / 127.0f : float_of(0x7fc00000u);
  if (!inside) return;
  BlockQ8F32& block = reinterpret_cast<BlockQ8F32*>(args.out.data + r * args.out.stride)[i / kActivationBlock];
  const auto place = i % kActivationBlock;
  block.q[place] = healthy && d != 0.0f ? code_of(x, d) : std::int8_t{0};
  if (place == 0) block.d = d;
}

}  // namespace

void quantize(Stream stream, const QuantizeArgs& args) {
  if (args.out.dtype != DType::q8_f32) return convert(stream, {args.x, args.out, args.n_rows});
  if (args.n_rows < 1) return;
  const std::int64_t blocks = (args.x.n_cols + kThreads - 1) / kThreads;
  launch({"quantize", stream, args.n_rows * blocks, 1, 1, kThreads}, quantize_kernel, args, blocks);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
