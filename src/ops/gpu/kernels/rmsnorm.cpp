// RMSNorm: out = (x * s) * w with s = 1 / sqrt(mean + eps), mean = (16-lane sum of fma(x, x, .)) / n; as
// ops/reference/rmsnorm.cpp, a block a group of n columns. The chains of the 16 lanes are what takes time, so the block brings
// the columns to shared memory all at once and its first wave does nothing but follow them; what it needs after them is in
// registers by then.
#include "ops/gpu/kernels/lane_sums.h"
#include "ops/gpu/kernels/numbers.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr int kChunk = 4096;              // columns in shared memory at a time
constexpr int kEach = 4;                  // pieces of 4 columns that a thread brings of them, at most
constexpr std::int64_t kFewGroups = 264;  // up to here a device has threads to spare

template <KernelFault kFault>
GRETA_KERNEL_OF(kChunk / 4, 1)
rmsnorm_kernel(RmsnormArgs args, int groups, bool aligned) {
  float* scale_slot = reinterpret_cast<float*>(shared_memory());
  float* staged = scale_slot + 4;
  const std::int64_t r = block_x() / groups, column = std::int64_t{block_x() % groups} * args.n;
  const float* x = reinterpret_cast<const float*>(args.x.data + r * args.x.stride) + column;
  float* out = reinterpret_cast<float*>(args.out.data + r * args.out.stride) + column;
  const auto piece = [](int p) { return (thread_id() + p * block_threads()) * 4; };
  float own[kEach][4], weight[kEach][4];  // of the first columns
  GRETA_UNROLL
  for (int p = 0; p < kEach; ++p) load_four(x, piece(p), args.n, aligned, own[p]);
  GRETA_UNROLL
  for (int p = 0; p < kEach; ++p) load_four(args.weight, piece(p), args.n, aligned, weight[p]);
  float sum = 0.0f;
  for (int begin = 0; begin < args.n; begin += kChunk) {
    const int n = args.n - begin < kChunk ? args.n - begin : kChunk;
    const int padded = (n + kLanes - 1) / kLanes * kLanes;
    if (begin > 0) block_barrier();  // the chains are done with what was there
    GRETA_UNROLL
    for (int p = 0; p < kEach; ++p) {
      float values[4];
      GRETA_UNROLL
      for (int k = 0; k < 4; ++k) values[k] = own[p][k];
      if (begin > 0) load_four(x, begin + piece(p), args.n, aligned, values);
      if (piece(p) < padded) store_four(staged, piece(p), padded, true, values);
    }
    block_barrier();
    if (wave_id() == 0) sum = spread_chain(staged, padded, sum, [](float v, float s) { return fma(v, v, s); });
  }
  if (wave_id() == 0) {
    const float mean = spread_sum<kFault>(sum) / static_cast<float>(args.n);
    if (lane_id() == 0) *scale_slot = 1.0f / square_root(mean + args.eps);
  }
  if constexpr (kFault != KernelFault::missing_barrier) block_barrier();
  const float scale = *scale_slot;
  for (int begin = 0; begin < args.n; begin += kEach * 4 * block_threads()) {
    GRETA_UNROLL
    for (int p = 0; p < kEach; ++p) {
      if (begin > 0) {
        load_four(x, begin + piece(p), args.n, aligned, own[p]);
        load_four(args.weight, begin + piece(p), args.n, aligned, weight[p]);
      }
      GRETA_UNROLL
      for (int k = 0; k < 4; ++k) own[p][k] = own[p][k] * scale * weight[p][k];
      store_four(out, begin + piece(p), args.n, aligned, own[p]);
    }
  }
}

template <KernelFault kFault>
void run(Stream stream, const RmsnormArgs& args) {
  const std::int64_t groups = args.x.n_cols / args.n, blocks = args.n_rows * groups;
  const int staged = args.n < kChunk ? (args.n + kLanes - 1) / kLanes * kLanes : kChunk;
  // So many that every column of a chunk is brought, in fewer pieces each where few blocks leave the device empty.
  constexpr int kLeast = 128;
  const int pieces = staged / 4, each = blocks <= kFewGroups ? 2 : kEach;
  const int threads = (pieces + each * kLeast - 1) / (each * kLeast) * kLeast;
  const bool aligned = all_aligned(args.x.data, args.out.data, args.weight) &&
                       (args.x.stride | args.out.stride | std::int64_t{args.n} * 4) % 16 == 0;
  launch({"rmsnorm", stream, blocks, 1, 1, threads, (4 + static_cast<std::size_t>(staged)) * sizeof(float)},
         rmsnorm_kernel<kFault>, args, groups, aligned);
}

}  // namespace

void rmsnorm(Stream stream, const RmsnormArgs& args) {
  if (args.n_rows < 1) return;
  switch (args.fault) {
    case KernelFault::missing_barrier:
      return run<KernelFault::missing_barrier>(stream, args);
    case KernelFault::wrong_wave_size:
      return run<KernelFault::wrong_wave_size>(stream, args);
    default:
      return run<KernelFault::none>(stream, args);
  }
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
