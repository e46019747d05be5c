// matmul_invariant for many rows: bound by the matrix cores. A block computes a tile of outputs by tokens from slabs of k that
// pass through shared memory, several ahead where copies run by themselves. Each wave keeps the sum of the present chunk and
// the total of those before it in registers.
#pragma once

#include "ops/gpu/kernels/matmul_chunks.h"

namespace greta::gpu::GRETA_GPU_TARGET {

inline constexpr int kManyThreads = 256;
inline constexpr int kRowWaves = 2;  // of a block's waves along outputs; the others lie along tokens
inline constexpr int kTokenWaves = kManyThreads / kWave / kRowWaves;

/// How a kernel for many rows is laid out. kTiles: tiles of a wave, along outputs and along tokens.
template <int kTiles, bool kAligned>
struct ManyShape {
  static constexpr int kOutputs = kRowWaves * kTiles * kTileRows;  // of a block
  static constexpr int kTokens = kTokenWaves * kTiles * kTileTokens;
  static constexpr bool kAsync = kAsyncCopies && kAligned;
  static constexpr int kDepth = kAsync ? 64 : 32;  // inputs of a slab
  static constexpr int kSlabs = kAsync ? 4 : 3;
  static constexpr int kRowBytes = 2 * kDepth;
  static constexpr int kRowPieces = kRowBytes / kPieceBytes;
  static constexpr int kSlabBytes = (kOutputs + kTokens) * kRowBytes;
  static_assert(kChunk % kDepth == 0 && kOutputs * kRowPieces % kManyThreads == 0 && kTokens * kRowPieces % kManyThreads == 0);
  static constexpr std::size_t kShared = static_cast<std::size_t>(kSlabs) * kSlabBytes;

  /// Byte of piece `piece` of row `row` in a slab. The pieces of a row change places so that the lanes that read together (8
  /// bytes of four lanes in each of four rows, or 16 bytes of a lane in each of eight) find theirs in different banks.
  GRETA_DEVICE static int at(int row, int piece) {
    const int swap = kRowPieces == 8 ? ((row & 3) << 1) | ((row >> 2) & 1) : (row & 2) | ((row >> 2) & 1);
    return row * kRowBytes + (piece ^ swap) * kPieceBytes;
  }
  /// Byte of this lane's operand of input 0 and row 0 of a tile at a slab's begin; of input k it is at this ^ 2 k, and of other
  /// tiles, which are multiples of 8 rows away, as many rows on.
  GRETA_DEVICE static int lane_at() {
    if constexpr (kWave == 64) return at(tile_token(), tile_depth() / 8);
    return at(tile_token(), lane_id() % 2) + lane_id() % 4 / 2 * 8;  // as tile_operand() deals them out
  }
};

/// One thread's share of the copies of slabs: a piece of each of kRows rows of outputs and as many of tokens, kApart apart.
/// Rows beyond the last are zeros.
template <class Shape, bool kAligned, KernelFault kFault>
struct SlabCopy {
  static constexpr int kApart = kManyThreads / Shape::kRowPieces;
  static constexpr int kOutputRows = Shape::kOutputs / kApart, kTokenRows = Shape::kTokens / kApart;
  static_assert(kApart % 8 == 0);  // so that Shape::at moves by whole rows

  const ProductOperands& p;
  const std::byte* weight;  // the piece of the thread's first row in the first slab
  const std::byte* x;
  std::int64_t first_output;      // that row
  int outputs_left, tokens_left;  // rows from the thread's first to the last of all
  int k = 0;                      // of the slab, counted in inputs
  Piece held[Shape::kAsync ? 1 : kOutputRows + kTokenRows];

  GRETA_DEVICE SlabCopy(const ProductOperands& operands, std::int64_t output, int token) : p(operands) {
    first_output = output + row();
    weight = p.weight + first_output * p.n_cols * 2;
    x = p.x + (token + row()) * p.x_stride;
    const std::int64_t left = p.n_out - first_output;
    outputs_left = left < Shape::kOutputs ? static_cast<int>(left) : Shape::kOutputs;
    tokens_left = p.n_rows - token - row();
  }
  GRETA_DEVICE static int row() { return thread_id() / Shape::kRowPieces; }
  GRETA_DEVICE static int piece() { return thread_id() % Shape::kRowPieces; }
  /// Where its piece of row i goes; tokens follow outputs.
  GRETA_DEVICE static std::byte* to(std::byte* slab, int i) {
    return slab + Shape::at(row(), piece()) + i * kApart * Shape::kRowBytes;
  }

  /// Begins to copy the next slab to `slab`.
  GRETA_DEVICE void fetch(std::byte* slab) {
    const std::int64_t at = k + piece() * 8;
    GRETA_UNROLL
    for (int i = 0; i < kOutputRows; ++i) {
      const std::byte* from = weight + i * kApart * p.n_cols * 2;
      const bool inside = i * kApart < outputs_left;
      if constexpr (Shape::kAsync)
        copy_async(to(slab, i), from + 2 * at, inside && at < p.n_in);
      else if constexpr (kFault == KernelFault::unread_padding)
        held[i] = inside ? load_weights<kAligned, kFault>(p, first_output + i * kApart, at) : Piece{};
      else
        held[i] = inside ? load_numbers<kAligned>(from, at, p.n_in) : Piece{};
    }
    GRETA_UNROLL
    for (int i = 0; i < kTokenRows; ++i) {
      const std::byte* from = x + i * kApart * p.x_stride;
      const bool inside = i * kApart < tokens_left;
      if constexpr (Shape::kAsync)
        copy_async(to(slab, kOutputRows + i), from + 2 * at, inside && at < p.n_in);
      else
        held[kOutputRows + i] = inside ? load_numbers<kAligned>(from, at, p.n_in) : Piece{};
    }
    k += Shape::kDepth;
  }
  /// Ends it, where copies do not run by themselves.
  GRETA_DEVICE void keep(std::byte* slab) const {
    if constexpr (!Shape::kAsync) {
      GRETA_UNROLL
      for (int i = 0; i < kOutputRows + kTokenRows; ++i) *reinterpret_cast<Piece*>(to(slab, i)) = held[i];
    }
  }
};

/// Where this wave's tiles begin in the block's, and Shape::lane_at().
struct WavePlace {
  int output, token, lane;
};

/// A lane's operand: `row` is where its row of the slab begins, `at` as Shape::lane_at() of input k.
GRETA_DEVICE Piece load_operand(const std::byte* row, int at) {
  if constexpr (kWave == 64) return load_piece(row + at);
  Piece operand;
  GRETA_UNROLL
  for (int half = 0; half < 2; ++half) {
    const auto* words = reinterpret_cast<const std::uint64_t*>(row + (at ^ 32 * half));
    operand.word[2 * half] = static_cast<std::uint32_t>(*words);
    operand.word[2 * half + 1] = static_cast<std::uint32_t>(*words >> 32);
  }
  return operand;
}
/// The lane's operands of A for row `m` of its wave's tiles and of B for all of them, of the 32 inputs from `k` on in a slab.
template <class Shape>
GRETA_DEVICE TileA load_a(const std::byte* slab, const WavePlace& at, int k, int m) {
  const std::byte* const first = slab + at.output * Shape::kRowBytes;
  TileA a;
  GRETA_UNROLL
  for (int i = 0; i < kLaneRows; ++i)
    a.piece[i] = load_operand(first + (m * kTileRows + 8 * i) * Shape::kRowBytes, at.lane ^ 2 * k);
  return a;
}
template <class Shape, int kTiles>
GRETA_DEVICE void load_b(const std::byte* slab, const WavePlace& at, int k, TileB (&b)[kTiles]) {
  const std::byte* const first = slab + (Shape::kOutputs + at.token) * Shape::kRowBytes;
  GRETA_UNROLL
  for (int n = 0; n < kTiles; ++n) b[n].piece = load_operand(first + n * kTileTokens * Shape::kRowBytes, at.lane ^ 2 * k);
}

/// Which tile a block computes: bands of kBand tiles of outputs, in each of them all tokens. Blocks that run together then
/// share weights and tokens in the cache.
struct BlockTile {
  std::int64_t output, token;  // tiles
};
GRETA_DEVICE BlockTile block_tile(std::int64_t output_tiles, std::int64_t token_tiles) {
  constexpr std::int64_t kBand = 8;
  const std::int64_t band = block_x() / (kBand * token_tiles), in_band = block_x() % (kBand * token_tiles);
  const std::int64_t left = output_tiles - band * kBand, width = left < kBand ? left : kBand;
  return {band * kBand + in_band % width, in_band / width};
}

template <KernelFault kFault, int kTiles>
GRETA_DEVICE void end_chunk(Results (&total)[kTiles][kTiles], Results (&sum)[kTiles][kTiles]) {
  GRETA_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    GRETA_UNROLL
    for (int n = 0; n < kTiles; ++n) {
      GRETA_UNROLL
      for (int i = 0; i < kTileResults; ++i) total[m][n].at[i] = plus_chunk<kFault>(total[m][n].at[i], sum[m][n].at[i]);
      sum[m][n] = {};
    }
  }
}

template <DType kType, int kTiles, bool kAligned, KernelFault kFault>
GRETA_KERNEL_OF(kManyThreads, kTiles == 4 ? 1 : 2)
matmul_many(ProductOperands p) {
  using Shape = ManyShape<kTiles, kAligned>;
  std::byte* const slabs = shared_memory();
  const BlockTile tile =
      block_tile((p.n_out + Shape::kOutputs - 1) / Shape::kOutputs, (p.n_rows + Shape::kTokens - 1) / Shape::kTokens);
  const std::int64_t first_output = tile.output * Shape::kOutputs;
  const int first_token = static_cast<int>(tile.token * Shape::kTokens);
  const WavePlace at{wave_id() % kRowWaves * kTiles * kTileRows, wave_id() / kRowWaves * kTiles * kTileTokens,
                     Shape::lane_at()};
  const int n_slabs = static_cast<int>((p.n_in + Shape::kDepth - 1) / Shape::kDepth);
  const auto slab = [&](int s) { return slabs + s % Shape::kSlabs * Shape::kSlabBytes; };
  SlabCopy<Shape, kAligned, kFault> copy(p, first_output, first_token);

  // Copies that run by themselves: kSlabs - 1 slabs ahead. Others: one is in registers, one is written while one is read and
  // stragglers read a third.
  for (int s = 0; s < Shape::kSlabs - 1; ++s) {
    if (s < n_slabs) copy.fetch(slab(s));
    commit_copies();
    if (s == 0) copy.keep(slab(0));
  }
  wait_copies<Shape::kSlabs - 2>();
  block_barrier();
  // Pieces are loaded a tile, or a step, before they are multiplied.
  TileA a = load_a<Shape>(slab(0), at, 0, 0);
  TileB b[kTiles];
  load_b<Shape>(slab(0), at, 0, b);
  Results total[kTiles][kTiles] = {}, sum[kTiles][kTiles] = {};
  for (int s = 0; s < n_slabs; ++s) {
    const bool last = s + 1 == n_slabs;
    const std::byte* const here = slab(s);
    const std::byte* const next = last ? here : slab(s + 1);  // what comes after the last is read and not used
    if constexpr (!Shape::kAsync) {
      if (!last) copy.keep(slab(s + 1));
      if (s + 2 < n_slabs) copy.fetch(nullptr);
    }
    GRETA_UNROLL
    for (int k = 0; k < Shape::kDepth; k += kTileDepth) {
      constexpr int kLastStep = Shape::kDepth - kTileDepth;
      TileB next_b[kTiles];
      GRETA_UNROLL
      for (int m = 0; m < kTiles; ++m) {
        if (m == kTiles - 2) {
          if (k == kLastStep && !last) {
            wait_copies<(Shape::kAsync ? Shape::kSlabs - 3 : 0)>();
            // The next slab is there for all, and all are done with the one before this.
            if constexpr (kFault != KernelFault::missing_barrier) block_barrier();
            if constexpr (Shape::kAsync) {
              if (s + Shape::kSlabs - 1 < n_slabs) copy.fetch(slab(s + Shape::kSlabs - 1));
              commit_copies();
            }
          }
          load_b<Shape>(k == kLastStep ? next : here, at, (k + kTileDepth) % Shape::kDepth, next_b);
        }
        const TileA next_a = m + 1 < kTiles
                                 ? load_a<Shape>(here, at, k, m + 1)
                                 : load_a<Shape>(k == kLastStep ? next : here, at, (k + kTileDepth) % Shape::kDepth, 0);
        multiply<kType>(sum[m], a, b);
        a = next_a;
      }
      GRETA_UNROLL
      for (int n = 0; n < kTiles; ++n) b[n] = next_b[n];
    }
    if (last || (s + 1) % (kChunk / Shape::kDepth) == 0) end_chunk<kFault>(total, sum);
  }
  GRETA_UNROLL
  for (int m = 0; m < kTiles; ++m) {
    GRETA_UNROLL
    for (int n = 0; n < kTiles; ++n) {
      GRETA_UNROLL
      for (int i = 0; i < kTileResults; ++i) {
        const std::int64_t output = first_output + at.output + m * kTileRows + result_row(i);
        const int token = first_token + at.token + n * kTileTokens + result_token(i);
        if (output < p.n_out && token < p.n_rows) store_output(p, token, output, total[m][n].at[i]);
      }
    }
  }
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
