// Kernels that compute every element of rows alone: how elements are dealt to threads.
#pragma once

#include "ops/gpu/kernels/numbers.h"

namespace greta::gpu::GRETA_GPU_TARGET {

inline constexpr int kElementThreads = 256;  // of a block
inline constexpr int kElementsEach = 4;      // of a thread, side by side

/// Blocks for a row of n elements.
inline std::int64_t element_blocks(std::int64_t n) {
  return (n + kElementThreads * kElementsEach - 1) / (kElementThreads * kElementsEach);
}
inline Launch element_launch(const char* name, Stream stream, std::int64_t n_rows, std::int64_t n) {
  return {name, stream, n_rows * element_blocks(n), 1, 1, kElementThreads};
}

/// The thread's row and its first element of the kElementsEach.
struct Elements {
  std::int64_t row, first;
};
GRETA_DEVICE Elements my_elements(std::int64_t n) {
  const auto blocks = static_cast<int>((n + kElementThreads * kElementsEach - 1) / (kElementThreads * kElementsEach));
  return {block_x() / blocks, (std::int64_t{block_x() % blocks} * kElementThreads + thread_id()) * kElementsEach};
}

/// Elements first.. of a row of n floats; zeros beyond its end. `whole`: they can be loaded at once.
GRETA_DEVICE void load_each(const float* row, std::int64_t first, std::int64_t n, bool whole, float (&v)[kElementsEach]) {
  if (whole) {
    const Words words = load_words(row + first);
    GRETA_UNROLL
    for (int i = 0; i < kElementsEach; ++i) v[i] = float_of(words.w[i]);
    return;
  }
  GRETA_UNROLL
  for (int i = 0; i < kElementsEach; ++i) v[i] = first + i < n ? row[first + i] : 0.0f;
}
GRETA_DEVICE void store_each(float* row, std::int64_t first, std::int64_t n, bool whole, const float (&v)[kElementsEach]) {
  if (whole) {
    Words words;
    GRETA_UNROLL
    for (int i = 0; i < kElementsEach; ++i) words.w[i] = bits_of(v[i]);
    *reinterpret_cast<Words*>(row + first) = words;
    return;
  }
  GRETA_UNROLL
  for (int i = 0; i < kElementsEach; ++i) {
    if (first + i < n) row[first + i] = v[i];
  }
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
