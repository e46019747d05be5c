// matmul_invariant for few rows: bound by the reading of weights. A block computes 8 or 16 outputs of all its rows; its waves
// take chunks in turn, straight from device memory to registers, and the chunks' sums meet in shared memory, where they are
// added in order.
#pragma once

#include "ops/gpu/kernels/matmul_chunks.h"

namespace greta::gpu::GRETA_GPU_TARGET {

inline constexpr int kFewThreads = 256;  // at most
/// Chunks whose sums are in shared memory together, of so many tokens: all of most matrices, and no more than CDNA has room
/// for.
constexpr int merged_chunks(int tokens) { return tokens > 16 ? 16 : 32; }

/// Shared bytes for blocks of kTokens rows: sums [merged_chunks][kTokens][kTileRows], as many zeros as the fault merge_stride
/// reads beyond them, then totals [kTokens][kTileRows].
constexpr std::size_t few_shared_bytes(int tokens) {
  return sizeof(float) * static_cast<std::size_t>((merged_chunks(tokens) + 1) * tokens * kTileRows + merged_chunks(tokens));
}

/// Steps of 32 inputs whose loads are all under way before the first is used: as many as registers hold. Loads number by number
/// are slow anyhow.
constexpr int few_steps(int token_tiles, bool aligned) { return !aligned || token_tiles > 2 ? 2 : token_tiles == 2 ? 4 : 8; }

/// Sums of one chunk: outputs first_output .. by tokens first_token ..
template <DType kType, int kTokenTiles, bool kAligned, KernelFault kFault>
GRETA_DEVICE void few_chunk(const ProductOperands& p, std::int64_t chunk, std::int64_t first_output, int outputs,
                            int first_token, Results (&sum)[kTokenTiles]) {
  constexpr int kSteps = few_steps(kTokenTiles, kAligned);
  static_assert(kChunk % (kTileDepth * kSteps) == 0);
  const std::int64_t begin = chunk * kChunk;
  const std::int64_t end = begin + kChunk < p.n_in ? begin + kChunk : p.n_in;
  for (std::int64_t k = begin + tile_depth(); k - tile_depth() < end; k += kTileDepth * kSteps) {
    TileA a[kSteps] = {};
    TileB b[kSteps][kTokenTiles] = {};
    GRETA_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      GRETA_UNROLL
      for (int i = 0; i < kLaneRows; ++i) {
        const std::int64_t output = first_output + tile_row(i);
        if (tile_row(i) < outputs && output < p.n_out)
          a[s].piece[i] = load_weights<kAligned, kFault>(p, output, k + s * kTileDepth, true);
      }
    }
    GRETA_UNROLL
    for (int t = 0; t < kTokenTiles; ++t) {
      const int token = first_token + t * kTileTokens + tile_token();
      if (token >= p.n_rows) continue;
      GRETA_UNROLL
      for (int s = 0; s < kSteps; ++s)
        b[s][t].piece = load_numbers<kAligned>(p.x + token * p.x_stride, k + s * kTileDepth, p.n_in);
    }
    GRETA_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      GRETA_UNROLL
      for (Piece& piece : a[s].piece) piece = tile_operand(piece);
      GRETA_UNROLL
      for (TileB& tile : b[s]) tile.piece = tile_operand(tile.piece);
      multiply<kType>(sum, a[s], b[s]);
    }
  }
}

template <DType kType, int kTokenTiles, bool kAligned, KernelFault kFault>
GRETA_KERNEL_OF(kFewThreads, kTokenTiles == 1 ? 1 : 2)
matmul_few(ProductOperands p, int outputs) {
  constexpr int kTokens = kTokenTiles * kTileTokens;
  constexpr int kTile = kTokens * kTileRows;
  constexpr int kMergedChunks = merged_chunks(kTokens);
  auto* const sums = reinterpret_cast<float*>(shared_memory());
  float* const totals = sums + kMergedChunks * kTile + kMergedChunks;
  const std::int64_t first_output = static_cast<std::int64_t>(block_x()) * outputs;
  const int first_token = block_y() * kTokens;
  const int n_waves = block_threads() / kWave;
  const std::int64_t n_chunks = (p.n_in + kChunk - 1) / kChunk;
  if constexpr (kFault == KernelFault::merge_stride)
    for (int i = thread_id(); i < kMergedChunks; i += block_threads()) sums[kMergedChunks * kTile + i] = 0;

  for (std::int64_t group = 0; group < n_chunks; group += kMergedChunks) {
    const int merged = static_cast<int>(n_chunks - group < kMergedChunks ? n_chunks - group : kMergedChunks);
    for (int c = wave_id(); c < merged; c += n_waves) {
      Results sum[kTokenTiles] = {};
      few_chunk<kType, kTokenTiles, kAligned, kFault>(p, group + c, first_output, outputs, first_token, sum);
      GRETA_UNROLL
      for (int t = 0; t < kTokenTiles; ++t)
        for (int i = 0; i < kTileResults; ++i)
          sums[c * kTile + (t * kTileTokens + result_token(i)) * kTileRows + result_row(i)] = sum[t].at[i];
    }
    if constexpr (kFault != KernelFault::missing_barrier) block_barrier();
    constexpr int kStride = kFault == KernelFault::merge_stride ? kTile + 1 : kTile;
    for (int e = thread_id(); e < kTile; e += block_threads()) {
      float total = group == 0 ? 0.0f : totals[e];
      for (int c = 0; c < merged; ++c) total = plus_chunk<kFault>(total, sums[c * kStride + e]);
      totals[e] = total;
      const int row = e % kTileRows, token = first_token + e / kTileRows;
      if (group + merged == n_chunks && row < outputs && first_output + row < p.n_out && token < p.n_rows)
        store_output(p, token, first_output + row, total);
    }
    if (group + merged < n_chunks) block_barrier();
  }
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
