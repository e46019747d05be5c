// Tiles of 16-lane dot products: rows of two matrices in shared memory, 16 threads a register tile, thread l of them lane l of
// all its sums. So every element that a thread reads enters several sums, and each sum is still one chain a lane.
#pragma once

#include "ops/gpu/kernels/lane_sums.h"
#include "ops/gpu/kernels/numbers.h"

namespace greta::gpu::GRETA_GPU_TARGET {

/// Columns of the rows in shared memory at a time, and floats from one row to the next there: 16 beyond, so that rows side by
/// side lie in different banks.
inline constexpr int kDepth = 64;
inline constexpr int kStagedStride = kDepth + kLanes;

/// Brings columns [begin, begin + kDepth) of kRows rows to shared memory as floats, zeros beyond n columns. row_of(i): the row,
/// or null for zeros. `aligned`: every row begins at a multiple of 16 bytes. All threads of a block of kThreads call it.
template <int kRows, int kThreads, class RowOf>
GRETA_DEVICE void stage_rows(float* to, int stride, DType dtype, bool aligned, std::int64_t begin, std::int64_t n,
                             const RowOf& row_of) {
  constexpr int kPieces = kDepth / 8;  // of 8 columns
  const std::int64_t bytes = dtype == DType::f32 ? 4 : 2;
  for (int p = thread_id(); p < kRows * kPieces; p += kThreads) {
    const int i = p / kPieces, piece = p % kPieces * 8;
    const std::byte* row = row_of(i);
    const std::int64_t column = begin + piece;
    float v[8];
    if (aligned && row != nullptr && column + 8 <= n) {
      load_eight(dtype, row + column * bytes, v);
    } else {
      GRETA_UNROLL
      for (int k = 0; k < 8; ++k) v[k] = row != nullptr && column + k < n ? load_number(dtype, row, column + k) : 0.0f;
    }
    GRETA_UNROLL
    for (int k = 0; k < 8; ++k) to[i * stride + piece + k] = v[k];
  }
}

/// Goes on with kA by kB sums over `depth` columns, a multiple of 16: sum[i * kB + j] of rows a + i * a_step and b + j *
/// b_step, both at the thread's lane already.
template <int kA, int kB>
GRETA_DEVICE void fuse_tile(const float* a, int a_step, const float* b, int b_step, int depth, float (&sum)[kA * kB]) {
  for (int k = 0; k < depth; k += kLanes) {
    float v[kA], w[kB];
    GRETA_UNROLL
    for (int i = 0; i < kA; ++i) v[i] = a[i * a_step + k];
    GRETA_UNROLL
    for (int j = 0; j < kB; ++j) w[j] = b[j * b_step + k];
    GRETA_UNROLL
    for (int i = 0; i < kA; ++i) {
      GRETA_UNROLL
      for (int j = 0; j < kB; ++j) sum[i * kB + j] = fma(v[i], w[j], sum[i * kB + j]);
    }
  }
}

/// How a block of 16 * kGroupsA * kGroupsB threads shares kRowsA by kRowsB sums: group (ga, gb) of 16 threads has rows
/// ga + i * kGroupsA of one matrix and gb + j * kGroupsB of the other.
template <int kEachA, int kEachB, int kAcrossA, int kAcrossB>
struct LaneTile {
  static constexpr int kA = kEachA, kB = kEachB, kGroupsA = kAcrossA, kGroupsB = kAcrossB;
  static constexpr int kRowsA = kA * kGroupsA, kRowsB = kB * kGroupsB;
  static constexpr int kThreads = kLanes * kGroupsA * kGroupsB;
  static constexpr int kOwn = kA * kB / kLanes;  // sums that a thread holds after scatter_sums

  static GRETA_DEVICE int lane() { return thread_id() % kLanes; }
  static GRETA_DEVICE int group_a() { return thread_id() / kLanes / kGroupsB; }
  static GRETA_DEVICE int group_b() { return thread_id() / kLanes % kGroupsB; }
  /// Row of either matrix to which the thread's sum n < kOwn belongs.
  static GRETA_DEVICE int row_a(int n) { return group_a() + (lane() * kOwn + n) / kB * kGroupsA; }
  static GRETA_DEVICE int row_b(int n) { return group_b() + (lane() * kOwn + n) % kB * kGroupsB; }

  /// fuse_tile over staged rows `a` and `b`, each with its stride.
  static GRETA_DEVICE void fuse(const float* a, int a_stride, const float* b, int b_stride, int depth, float (&sum)[kA * kB]) {
    fuse_tile<kA, kB>(a + group_a() * a_stride + lane(), kGroupsA * a_stride, b + group_b() * b_stride + lane(),
                      kGroupsB * b_stride, depth, sum);
  }
};

}  // namespace greta::gpu::GRETA_GPU_TARGET
