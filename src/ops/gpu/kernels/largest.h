// The largest of many logits and its id: the lowest of equals, never a NaN. In any order the same answer.
#pragma once

#include <limits>

#include "ops/gpu/portable.h"

namespace greta::gpu::GRETA_GPU_TARGET {

struct Largest {
  float value = 0;
  std::int32_t id = -1;  // -1: none yet
};
GRETA_DEVICE void join(const Largest& other, Largest& best) {
  if (other.id < 0) return;
  const bool tie_before = other.value == best.value && other.id < best.id;
  if (best.id < 0 || other.value > best.value || tie_before) best = other;
}

/// Shared memory of `largest_of_block` for blocks of at most 1024 threads.
inline constexpr int kLargestParts = 1024 / 32;

/// Of ids `first`, first + stride, ... below `end`: one thread's share.
GRETA_DEVICE Largest largest_of(const float* logits, std::int64_t first, std::int64_t end, int stride) {
  constexpr int kAtOnce = 8;
  Largest best;
  for (std::int64_t i = first; i < end; i += std::int64_t{kAtOnce} * stride) {
    float x[kAtOnce];
    GRETA_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t at = i + std::int64_t{k} * stride;
      x[k] = at < end ? logits[at] : std::numeric_limits<float>::quiet_NaN();
    }
    GRETA_UNROLL
    for (int k = 0; k < kAtOnce; ++k)
      if (x[k] == x[k]) join({x[k], static_cast<std::int32_t>(i + std::int64_t{k} * stride)}, best);
  }
  return best;
}

/// Of all threads of the block, which all call it; the answer is thread 0's.
GRETA_DEVICE Largest largest_of_block(Largest best, Largest (&parts)[kLargestParts]) {
  for (int mask = kWave / 2; mask > 0; mask /= 2) {
    const Largest other = {shuffle_xor(best.value, mask), shuffle_xor(best.id, mask)};
    join(other, best);
  }
  if (lane_id() == 0) parts[wave_id()] = best;
  block_barrier();
  if (thread_id() == 0)
    for (int w = 1; w < block_threads() / kWave; ++w) join(parts[w], best);
  return best;
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
