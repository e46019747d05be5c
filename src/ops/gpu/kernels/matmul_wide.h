// matmul_invariant for many rows where the hardware multiplies straight from shared memory (wide_tile.h): a block of three
// groups of four waves computes 192 outputs of 128 tokens. Otherwise as matmul_many.h.
#pragma once

#include "ops/gpu/kernels/matmul_chunks.h"
#include "ops/gpu/kernels/matmul_many.h"
#include "ops/gpu/kernels/wide_tile.h"

namespace greta::gpu::GRETA_GPU_TARGET {

struct WideShape {
  static constexpr int kGroups = 3;
  static constexpr int kThreads = kGroups * kWideThreads;
  static constexpr int kOutputs = kGroups * kWideRows, kTokens = kWideTokens;
  static constexpr int kSlabs = 5;
  static constexpr int kSlabBytes = (kOutputs + kTokens) * kWideRowBytes;
  static constexpr std::size_t kShared = kSlabs * kSlabBytes + kWideAlignment;
  static_assert(kSlabBytes % kWideAlignment == 0 && kOutputs * kWideRowBytes % kWideAlignment == 0 && kChunk % kWideDepth == 0);
};

/// One thread's share of the copies of slabs: the same piece of rows kApart apart.
struct WideCopy {
  static constexpr int kRowPieces = kWideRowBytes / kPieceBytes;
  static constexpr int kApart = WideShape::kThreads / kRowPieces;
  static constexpr int kRows = WideShape::kOutputs + WideShape::kTokens;
  static constexpr int kCopies = (kRows + kApart - 1) / kApart;
  static constexpr int kOutputCopies = WideShape::kOutputs / kApart;
  static_assert(WideShape::kOutputs % kApart == 0 && kApart % 8 == 0);

  const std::byte* weight;  // of the thread's first row, and so are these
  const std::byte* x;
  std::int64_t weight_apart, x_apart;
  int outputs_left, tokens_left;  // rows from the thread's first to the last of all
  int k_left;                     // inputs from the thread's first to the last of all

  GRETA_DEVICE WideCopy(const ProductOperands& p, std::int64_t output, int token) {
    const int row = thread_id() / kRowPieces, k = thread_id() % kRowPieces * 8;
    weight = p.weight + ((output + row) * p.n_cols + k) * 2;
    x = p.x + (token + row) * p.x_stride + k * 2;
    weight_apart = kApart * p.n_cols * 2;
    x_apart = kApart * p.x_stride;
    const std::int64_t left = p.n_out - output - row;
    outputs_left = left < WideShape::kOutputs ? static_cast<int>(left) : WideShape::kOutputs;
    tokens_left = p.n_rows - token - row;
    k_left = static_cast<int>(p.n_in) - k;
  }
  /// Begins to copy the next slab to `slab`. Rows beyond the last are zeros.
  GRETA_DEVICE void fetch(std::byte* slab) {
    std::byte* const to = slab + wide_at(thread_id() / kRowPieces, thread_id() % kRowPieces);
    const bool inside = k_left > 0;
    GRETA_UNROLL
    for (int i = 0; i < kOutputCopies; ++i)
      copy_async(to + i * kApart * kWideRowBytes, weight + i * weight_apart, inside && i * kApart < outputs_left);
    GRETA_UNROLL
    for (int i = 0; i < kCopies - kOutputCopies; ++i) {
      if (i * kApart + thread_id() / kRowPieces >= WideShape::kTokens) continue;
      copy_async(to + (kOutputCopies + i) * kApart * kWideRowBytes, x + i * x_apart, inside && i * kApart < tokens_left);
    }
    weight += kWideRowBytes;
    x += kWideRowBytes;
    k_left -= kWideDepth;
  }
};

/// Aligned operands only.
template <DType kType, KernelFault kFault>
GRETA_KERNEL_OF(WideShape::kThreads, 1)
matmul_wide(ProductOperands p) {
  constexpr int kSlabs = WideShape::kSlabs, kAhead = kSlabs - 2;
  std::byte* const slabs = aligned_shared();
  const BlockTile tile = block_tile((p.n_out + WideShape::kOutputs - 1) / WideShape::kOutputs,
                                    (p.n_rows + WideShape::kTokens - 1) / WideShape::kTokens);
  const std::int64_t first_output = tile.output * WideShape::kOutputs;
  const int first_token = static_cast<int>(tile.token * WideShape::kTokens);
  const int group = thread_id() / kWideThreads;
  const int n_slabs = static_cast<int>((p.n_in + kWideDepth - 1) / kWideDepth);
  const auto slab = [&](int s) { return slabs + s % kSlabs * WideShape::kSlabBytes; };
  WideCopy copy(p, first_output, first_token);

  for (int s = 0; s < kAhead; ++s) {
    if (s < n_slabs) copy.fetch(slab(s));
    commit_copies();
  }
  WideResults total, sum;
  for (int first = 0; first < n_slabs; first += kChunk / kWideDepth) {
    const int end = first + kChunk / kWideDepth < n_slabs ? first + kChunk / kWideDepth : n_slabs;
    GRETA_UNROLL
    for (float& value : sum.at) value = 0;
    hold(sum);
    for (int s = first; s < end; ++s) {
      wait_copies<kAhead - 1>();
      publish_to_wide();
      // Slab s is there for all, and the products of all with slab s - 2 have ended.
      if constexpr (kFault != KernelFault::missing_barrier) block_barrier();
      if (s + kAhead < n_slabs) copy.fetch(slab(s + kAhead));
      commit_copies();
      multiply_wide<kType>(sum, slab(s) + group * kWideRows * kWideRowBytes, slab(s) + WideShape::kOutputs * kWideRowBytes);
      wait_wide<1>(sum);
    }
    wait_wide<0>(sum);
    GRETA_UNROLL
    for (int i = 0; i < kWideTokens / 2; ++i) total.at[i] = plus_chunk<kFault>(total.at[i], sum.at[i]);
  }
  GRETA_UNROLL
  for (int n = 0; n < kWideTokens / kTileTokens; ++n) {
    GRETA_UNROLL
    for (int i = 0; i < kTileResults; ++i) {
      const std::int64_t output = first_output + group * kWideRows + wave_id() % 4 * kTileRows + result_row(i);
      const int token = first_token + n * kTileTokens + result_token(i);
      if (output < p.n_out && token < p.n_rows) store_output(p, token, output, total.at[n * kTileResults + i]);
    }
  }
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
