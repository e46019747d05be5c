// Sums over the 16 virtual lanes of the reference route by threads of a wave: the halving tree of ops/cpu/lanes_scalar.h, lane
// i with i + 8, then i + 4, i + 2, i + 1. A sum of two does not care which comes first, so exchanges with lane i ^ 8 and so on
// give it in both.
#pragma once

#include "ops/gpu/kernels/lane_math.h"

namespace greta::gpu::GRETA_GPU_TARGET {

/// A wave that computes one sum alone spreads its 16 lanes: kSpread neighbours compute the same one.
inline constexpr int kSpread = kWave / kLanes;
GRETA_DEVICE int spread_lane() { return lane_id() / kSpread; }

/// The sum of the 16 lanes of a spread wave, in all its threads.
template <KernelFault kFault = KernelFault::none>
GRETA_DEVICE float spread_sum(float sum) {
  // The fault takes the lanes to lie as in waves of the other size, 32 or 64: their neighbours are then other ones.
  constexpr int kAssumed = kFault == KernelFault::wrong_wave_size ? 96 - kWave : kWave;
  GRETA_UNROLL
  for (int mask = kAssumed / 2; mask >= kAssumed / kLanes; mask /= 2) sum = sum + shuffle_xor(sum, mask % kWave);
  return sum;
}

/// Goes on with a lane's chain of a spread wave, sum = link(value, sum), over n staged floats, a multiple of 16. Values are
/// loaded a round before they are needed.
template <class Link>
GRETA_DEVICE float spread_chain(const float* staged, int n, float sum, const Link& link) {
  constexpr int kAhead = 8, kRound = kAhead * kLanes;
  const float* from = staged + spread_lane();
  float value[kAhead];
  GRETA_UNROLL
  for (int k = 0; k < kAhead; ++k) value[k] = k * kLanes < n ? from[k * kLanes] : 0.0f;
  int i = 0;
  GRETA_UNROLL_BY(2)
  for (; i + 2 * kRound <= n; i += kRound) {
    float next[kAhead];
    GRETA_UNROLL
    for (int k = 0; k < kAhead; ++k) next[k] = from[i + kRound + k * kLanes];
    GRETA_UNROLL
    for (int k = 0; k < kAhead; ++k) sum = link(value[k], sum);
    GRETA_UNROLL
    for (int k = 0; k < kAhead; ++k) value[k] = next[k];
  }
  for (; i < n; i += kRound) {
    float next[kAhead];
    GRETA_UNROLL
    for (int k = 0; k < kAhead; ++k) next[k] = i + kRound + k * kLanes < n ? from[i + kRound + k * kLanes] : 0.0f;
    GRETA_UNROLL
    for (int k = 0; k < kAhead; ++k) sum = i + k * kLanes < n ? link(value[k], sum) : sum;
    GRETA_UNROLL
    for (int k = 0; k < kAhead; ++k) value[k] = next[k];
  }
  return sum;
}

/// One level of scatter_sums: kHalf sums stay, as many go to the partner. Not a loop, so that all stay in registers.
template <int kMask, int kHalf, int kCount>
GRETA_DEVICE void scatter_level(float (&v)[kCount], int l) {
  const bool upper = (l & kMask) != 0;
  GRETA_UNROLL
  for (int i = 0; i < kHalf; ++i) {
    const float sent = upper ? v[i] : v[i + kHalf];
    const float kept = upper ? v[i + kHalf] : v[i];
    v[i] = kept + shuffle_xor(sent, kMask);
  }
  if constexpr (kMask > 1) scatter_level<kMask / 2, kHalf / 2>(v, l);
}
/// kCount sums of 16 lanes each, computed by 16 neighbouring threads, thread l of them lane l: v[i] is the thread's lane of sum
/// i. Leaves in v[0..kCount / 16) the sums l * kCount / 16 and on.
template <int kCount>
GRETA_DEVICE void scatter_sums(float (&v)[kCount], int l) {
  static_assert(kCount % kLanes == 0);
  scatter_level<kLanes / 2, kCount / 2>(v, l);
}

/// The sum of the 16 lanes of 16 neighbouring threads, in all of them.
GRETA_DEVICE float group_sum(float sum) {
  GRETA_UNROLL
  for (int mask = kLanes / 2; mask > 0; mask /= 2) sum = sum + shuffle_xor(sum, mask);
  return sum;
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
