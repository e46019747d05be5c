// Softmax of every head's keys, as ops/reference/attention.cpp: e = exp(s - max), divided by the 16-lane sum of e (key j in
// lane j % 16, a tail padded with zeros). A NaN score, an infinite maximum or scores that are all -infinity give NaN for the
// whole head. Few heads: a block each, every thread keeps the exponentials of its keys, the first wave follows the chains of
// the sum. Many: a wave each.
#include "ops/gpu/kernels/lane_sums.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr int kChunk = 4096;  // keys in shared memory at a time
constexpr int kEach = 8;      // of them a thread's own, at most
constexpr int kMostThreads = 1024, kMostWaves = kMostThreads / 32;
constexpr std::int64_t kFewBlocks = 264;  // up to here a device has threads to spare

GRETA_DEVICE float negative_infinity() { return float_of(0xff800000u); }

/// The thread's share of the keys from `begin`, -infinity beyond the last.
GRETA_DEVICE void load_share(const float* scores, int begin, int n, float (&own)[kEach]) {
  GRETA_UNROLL
  for (int k = 0; k < kEach; ++k) {
    const int j = begin + thread_id() + k * block_threads();
    own[k] = j < n ? scores[j] : negative_infinity();
  }
}

/// The largest score of the head, -infinity where there is none; NaN is passed over. The same in all threads. `own`: the share
/// of the first keys.
GRETA_DEVICE float block_max(const float* scores, int n, const float (&own)[kEach], float* largest_of_waves) {
  float largest = negative_infinity();
  GRETA_UNROLL
  for (int k = 0; k < kEach; ++k) largest = own[k] > largest ? own[k] : largest;
  for (int begin = kEach * block_threads(); begin < n; begin += kEach * block_threads()) {
    float more[kEach];
    load_share(scores, begin, n, more);
    GRETA_UNROLL
    for (int k = 0; k < kEach; ++k) largest = more[k] > largest ? more[k] : largest;
  }
  GRETA_UNROLL
  for (int mask = kWave / 2; mask > 0; mask /= 2) {
    const float other = shuffle_xor(largest, mask);
    largest = other > largest ? other : largest;
  }
  if (lane_id() == 0) largest_of_waves[wave_id()] = largest;
  block_barrier();
  for (int w = 0; w < block_threads() / kWave; ++w) {
    const float other = largest_of_waves[w];
    largest = other > largest ? other : largest;
  }
  return largest;
}

template <KernelFault kFault>
GRETA_KERNEL_OF(kMostThreads, 1)
softmax_kernel(SoftmaxArgs args) {
  float* largest_of_waves = reinterpret_cast<float*>(shared_memory());
  float* total_slot = largest_of_waves + kMostWaves;
  float* staged = total_slot + 4;
  const int r = block_x() / args.n_heads, head = block_x() % args.n_heads;
  const int n = args.rows.position[r] + 1;
  const std::int64_t offset = args.rows.score_offset[r] + std::int64_t{head} * n;
  const float* scores = args.scores + offset;
  float* probs = args.probs + offset;
  const bool once = n <= kChunk;  // then scores, and later exponentials, stay in registers
  float own[kEach];
  load_share(scores, 0, n, own);
  const float top = block_max(scores, n, own, largest_of_waves);
  float sum = 0.0f;
  for (int begin = 0; begin < n; begin += kChunk) {
    const int end = n - begin < kChunk ? n : begin + kChunk;
    const int padded = (end - begin + kLanes - 1) / kLanes * kLanes;
    if (begin > 0) block_barrier();  // the chains are done with what was there
    if (!once) load_share(scores, begin, end, own);
    GRETA_UNROLL
    for (int k = 0; k < kEach; ++k) {
      const int i = thread_id() + k * block_threads();
      if (i >= padded) continue;
      own[k] = begin + i < end ? lane_exp(own[k] - top) : 0.0f;
      staged[i] = own[k];
      if (!once && begin + i < end) probs[begin + i] = own[k];  // read again by this thread alone
    }
    block_barrier();
    if (wave_id() == 0) sum = spread_chain(staged, padded, sum, [](float v, float s) { return s + v; });
  }
  if (wave_id() == 0) {
    const float total = spread_sum<kFault>(sum);
    if (lane_id() == 0) *total_slot = total;
  }
  if constexpr (kFault != KernelFault::missing_barrier) block_barrier();
  const float total = *total_slot;
  if (once) {
    GRETA_UNROLL
    for (int k = 0; k < kEach; ++k) {
      const int j = thread_id() + k * block_threads();
      if (j < n) probs[j] = own[k] / total;
    }
  } else {
    for (int j = thread_id(); j < n; j += block_threads()) probs[j] = probs[j] / total;
  }
}

/// The same by a wave a head, which waits for nobody: keys in shares of kShare, whose exponentials stay in registers.
constexpr int kWaveThreads = 128, kShare = 256;
template <int kShares>
GRETA_KERNEL_OF(kWaveThreads, 1)
softmax_waves(SoftmaxArgs args) {
  constexpr int kOwn = kShare / kWave;
  float* staged = reinterpret_cast<float*>(shared_memory()) + wave_id() * kShare;
  const std::int64_t at = std::int64_t{block_x()} * (kWaveThreads / kWave) + wave_id();
  const std::int64_t r = at / args.n_heads;
  if (r >= args.rows.n) return;
  const int n = args.rows.position[r] + 1;
  const std::int64_t offset = args.rows.score_offset[r] + at % args.n_heads * n;
  const float* scores = args.scores + offset;
  float* probs = args.probs + offset;
  float own[kShares][kOwn];
  float top = negative_infinity();
  GRETA_UNROLL
  for (int s = 0; s < kShares; ++s) {
    if (s * kShare < n) {
      GRETA_UNROLL
      for (int k = 0; k < kOwn; ++k) {
        const int j = s * kShare + k * kWave + lane_id();
        own[s][k] = j < n ? scores[j] : negative_infinity();
      }
    }
  }
  GRETA_UNROLL
  for (int s = 0; s < kShares; ++s) {
    if (s * kShare < n) {
      GRETA_UNROLL
      for (int k = 0; k < kOwn; ++k) top = own[s][k] > top ? own[s][k] : top;
    }
  }
  GRETA_UNROLL
  for (int mask = kWave / 2; mask > 0; mask /= 2) {
    const float other = shuffle_xor(top, mask);
    top = other > top ? other : top;
  }
  float sum = 0.0f;
  GRETA_UNROLL
  for (int s = 0; s < kShares; ++s) {
    if (s * kShare < n) {
      wave_barrier();  // the chains are done with what was there
      GRETA_UNROLL
      for (int k = 0; k < kOwn; ++k) {
        const int j = s * kShare + k * kWave + lane_id();
        own[s][k] = j < n ? lane_exp(own[s][k] - top) : 0.0f;
        staged[k * kWave + lane_id()] = own[s][k];
      }
      wave_barrier();
      const int left = n - s * kShare;
      sum = spread_chain(staged, left < kShare ? (left + kLanes - 1) / kLanes * kLanes : kShare, sum,
                         [](float v, float t) { return t + v; });
    }
  }
  const float total = spread_sum(sum);
  GRETA_UNROLL
  for (int s = 0; s < kShares; ++s) {
    if (s * kShare < n) {
      GRETA_UNROLL
      for (int k = 0; k < kOwn; ++k) {
        const int j = s * kShare + k * kWave + lane_id();
        if (j < n) probs[j] = own[s][k] / total;
      }
    }
  }
}

template <KernelFault kFault>
void run(Stream stream, const SoftmaxArgs& args) {
  const std::int32_t most = args.rows.most_keys;
  const int staged = most < kChunk ? (most + kLanes - 1) / kLanes * kLanes : kChunk;
  const std::int64_t blocks = std::int64_t{args.rows.n} * args.n_heads;
  if (kFault == KernelFault::none && blocks > kFewBlocks && most <= 16 * kShare) {
    constexpr int kWaves = kWaveThreads / kWave;
    return launch({"softmax", stream, (blocks + kWaves - 1) / kWaves, 1, 1, kWaveThreads, kWaves * kShare * sizeof(float)},
                  most <= 4 * kShare   ? softmax_waves<4>
                  : most <= 8 * kShare ? softmax_waves<8>
                                       : softmax_waves<16>,
                  args);
  }
  // Every key of a chunk is in a thread's share; kChunk is a multiple of each, so that a thread meets its own keys again.
  int threads = most <= kEach * 128 ? 128 : most <= kEach * 256 ? 256 : most <= kChunk ? 512 : kMostThreads;
  if (blocks <= kFewBlocks && most <= kChunk) threads = most <= kEach * 512 && most > 512 ? 512 : 256;
  launch({"softmax", stream, blocks, 1, 1, threads, (kMostWaves + 4 + static_cast<std::size_t>(staged)) * sizeof(float)},
         softmax_kernel<kFault>, args);
}

}  // namespace

void softmax(Stream stream, const SoftmaxArgs& args) {
  if (args.rows.n < 1) return;
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
