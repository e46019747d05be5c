// matmul_q8 for many rows: bound by the matrix cores and by the three float operations of each sub-block. Weights and rows are
// unpacked into scratch memory first: codes in rows, scales and minima by sub-block. Then a block computes a tile of outputs by
// tokens from slabs of two slices of 32 codes, and each lane keeps the sums of its results over all of k.
#pragma once

#include "core/activation_blocks.h"
#include "ops/gpu/kernels/q8_operands.h"

namespace greta::gpu::GRETA_GPU_TARGET {

inline constexpr int kQ8Threads = 256;
inline constexpr int kQ8OutputTiles = 4, kQ8TokenTiles = 2;       // of a wave
inline constexpr int kQ8RowWaves = 2;                             // along outputs
inline constexpr int kQ8BlockOutputs = 128, kQ8BlockTokens = 64;  // unpacked operands are padded to them with zeros
static_assert(kQ8RowWaves * kQ8OutputTiles * kTileRows == kQ8BlockOutputs);
static_assert(kQ8Threads / kWave / kQ8RowWaves * kQ8TokenTiles * kTileTokens == kQ8BlockTokens);

/// Unpacked weights or rows: codes [n][32 * n_slices], and numbers [sub-block][n], n padded.
struct Q8Unpacked {
  std::byte* codes;
  float* scales;  // of weights: d, a sub-block each; of rows: d, a slice each
  float* minima;  // of weights: m; of rows: d * sum of the sub-block's codes; null where the weights have none
  std::int64_t n;
};

GRETA_DEVICE void store_codes(const Q8Unpacked& to, std::int64_t i, std::int64_t slice, std::int64_t n_slices,
                              const std::uint32_t (&codes)[8]) {
  auto* out = reinterpret_cast<Piece*>(to.codes + (i * n_slices + slice) * 32);
  out[0] = {{codes[0], codes[1], codes[2], codes[3]}};
  out[1] = {{codes[4], codes[5], codes[6], codes[7]}};
}

/// Each byte, below 128, less kOffset.
template <int kOffset>
GRETA_DEVICE std::uint32_t less(std::uint32_t bytes) {
  if constexpr (kOffset == 0) return bytes;
  return ((bytes | 0x80808080u) - kOffset * 0x01010101u) ^ 0x80808080u;  // the top bits stop the borrows
}

/// Outputs first .. first + to.n of the weights: a lane an output, a wave a slice.
template <DType kType>
GRETA_KERNEL_OF(kQ8Threads, 1)
q8_unpack_weights(Q8Operands p, std::int64_t first, Q8Unpacked to) {
  using Slice = SliceOf<kType>;
  const std::int64_t i = static_cast<std::int64_t>(block_x()) * kWave + lane_id();
  const std::int64_t slice = static_cast<std::int64_t>(block_y()) * (block_threads() / kWave) + wave_id();
  if (i >= to.n || slice >= p.n_slices) return;
  Slice w{};
  if (first + i < p.n_out) {
    const std::byte* row = p.weight + (first + i) * p.row_bytes;
    w = unpack_slice<kType>(row + slice / Slice::kSlices * Slice::kBlockBytes, static_cast<int>(slice % Slice::kSlices));
    for (std::uint32_t& word : w.codes) word = less<Slice::kOffset>(word);
  }
  store_codes(to, i, slice, p.n_slices, w.codes);
  for (int s = 0; s < Slice::kSubs; ++s) {
    to.scales[(slice * Slice::kSubs + s) * to.n + i] = w.d[s];
    if constexpr (Slice::kFormat.minima) to.minima[(slice * Slice::kSubs + s) * to.n + i] = w.m[s];
  }
}

/// Rows of x: a lane a row, a wave a slice.
template <int kSubs>
GRETA_KERNEL_OF(kQ8Threads, 1)
q8_unpack_rows(Q8Operands p, Q8Unpacked to) {
  const std::int64_t i = static_cast<std::int64_t>(block_x()) * kWave + lane_id();
  const std::int64_t slice = static_cast<std::int64_t>(block_y()) * (block_threads() / kWave) + wave_id();
  if (i >= to.n || slice >= p.n_slices) return;
  float d = 0;
  std::uint32_t codes[8] = {};
  if (i < p.n_rows) {
    const auto* words =
        reinterpret_cast<const std::uint32_t*>(p.x + i * p.x_stride + slice * static_cast<std::int64_t>(sizeof(BlockQ8F32)));
    d = float_of(words[0]);
    for (int w = 0; w < 8; ++w) codes[w] = words[w + 1];
  }
  store_codes(to, i, slice, p.n_slices, codes);
  to.scales[slice * to.n + i] = d;
  if (to.minima == nullptr) return;
  std::int32_t low = 0, high = 0;
  for (int w = 0; w < 4; ++w) {
    low = dot4(low, codes[w], 0x01010101u);
    high = dot4(high, codes[w + 4], 0x01010101u);
  }
  if constexpr (kSubs == 1) {
    to.minima[slice * to.n + i] = d * static_cast<float>(low + high);
  } else {
    to.minima[2 * slice * to.n + i] = d * static_cast<float>(low);
    to.minima[(2 * slice + 1) * to.n + i] = d * static_cast<float>(high);
  }
}

/// A slab in shared memory: codes of the block's outputs, then of its tokens; then arrays of a float an output: the weights'
/// scales and minima, a sub-block each; then arrays of a float a token: the rows' d, a slice each, and their sums, a sub-block
/// each.
template <int kSubs, bool kMinima>
struct Q8Slab {
  static constexpr int kSlices = 2;
  static constexpr int kRowBytes = 32 * kSlices;
  static constexpr int kRowPieces = kRowBytes / kPieceBytes;
  static constexpr int kCodePieces = (kQ8BlockOutputs + kQ8BlockTokens) * kRowPieces;
  static constexpr int kSlabSubs = kSlices * kSubs;
  static constexpr int kOutputArrays = kSlabSubs * (kMinima ? 2 : 1);
  static constexpr int kTokenArrays = kSlices + (kMinima ? kSlabSubs : 0);
  static constexpr int kOutputPieces = kQ8BlockOutputs * 4 / kPieceBytes, kTokenPieces = kQ8BlockTokens * 4 / kPieceBytes;
  static constexpr int kArrayPieces = kOutputArrays * kOutputPieces + kTokenArrays * kTokenPieces;
  static constexpr int kBytes = (kCodePieces + kArrayPieces) * kPieceBytes;
  static constexpr int kSlabs = kAsyncCopies ? 4 : 2;

  /// Byte of code `byte` of a row. Pieces change places so that lanes that read together find theirs in different banks.
  GRETA_DEVICE static int code_at(int row, int byte) {
    const int swap = ((row >> 1) & 1) << 1 | ((row >> 2) & 1);
    return row * kRowBytes + ((byte / kPieceBytes) ^ swap) * kPieceBytes + byte % kPieceBytes;
  }
  GRETA_DEVICE static const float* outputs(const std::byte* slab, int array) {
    return reinterpret_cast<const float*>(slab + (kCodePieces + array * kOutputPieces) * kPieceBytes);
  }
  GRETA_DEVICE static const float* tokens(const std::byte* slab, int array) {
    return reinterpret_cast<const float*>(slab +
                                          (kCodePieces + kOutputArrays * kOutputPieces + array * kTokenPieces) * kPieceBytes);
  }
  GRETA_DEVICE static const float* scales(const std::byte* slab, int sub) { return outputs(slab, sub); }
  GRETA_DEVICE static const float* minima(const std::byte* slab, int sub) { return outputs(slab, kSlabSubs + sub); }
  GRETA_DEVICE static const float* row_scales(const std::byte* slab, int slice) { return tokens(slab, slice); }
  GRETA_DEVICE static const float* row_sums(const std::byte* slab, int sub) { return tokens(slab, kSlices + sub); }
};

struct Q8ManyOperands {
  Q8Operands p;
  Q8Unpacked weights, rows;
  std::int64_t first;  // output of weights' first
};

/// One thread's share of the copies of slabs: pieces of the codes of some outputs and tokens and of kArrayCopies arrays. What
/// moves from slab to slab are a few pointers.
template <int kSubs, bool kMinima>
struct Q8SlabCopy {
  using Slab = Q8Slab<kSubs, kMinima>;
  static constexpr int kCodeCopies = Slab::kCodePieces / kQ8Threads;
  static constexpr int kRowsApart = kQ8Threads / Slab::kRowPieces;  // of two copies
  static constexpr int kOutputCopies = kQ8BlockOutputs / kRowsApart;
  static constexpr int kArrayCopies = (Slab::kArrayPieces + kQ8Threads - 1) / kQ8Threads;
  static_assert(kQ8BlockOutputs % kRowsApart == 0 && kQ8BlockTokens % kRowsApart == 0 && kRowsApart % 8 == 0);

  const std::byte* codes[2];  // of the first output and the first token
  std::int64_t rows_apart;    // bytes
  const std::byte* array[kArrayCopies];
  std::int64_t step[kArrayCopies];  // bytes from slab to slab
  int array_slice[kArrayCopies];    // of the slab
  int slices_left;                  // from the next slab on
  Piece held[kAsyncCopies ? 1 : kCodeCopies + kArrayCopies];

  GRETA_DEVICE Q8SlabCopy(const Q8ManyOperands& q, std::int64_t output, std::int64_t token)
      : slices_left(static_cast<int>(q.p.n_slices)) {
    const int row = thread_id() / Slab::kRowPieces, byte = thread_id() % Slab::kRowPieces * kPieceBytes;
    rows_apart = kRowsApart * q.p.n_slices * 32;
    codes[0] = q.weights.codes + (output + row) * q.p.n_slices * 32 + byte;
    codes[1] = q.rows.codes + (token + row) * q.p.n_slices * 32 + byte;
    GRETA_UNROLL
    for (int i = 0; i < kArrayCopies; ++i) {
      const int e = thread_id() + i * kQ8Threads, of_tokens = e - Slab::kOutputArrays * Slab::kOutputPieces;
      const bool outputs = of_tokens < 0;
      const int index = outputs ? e / Slab::kOutputPieces : of_tokens / Slab::kTokenPieces;
      const int at = 4 * (outputs ? e % Slab::kOutputPieces : of_tokens % Slab::kTokenPieces);
      const Q8Unpacked& from = outputs ? q.weights : q.rows;
      const int scales = outputs ? Slab::kSlabSubs : Slab::kSlices;  // arrays of scales, before those of minima
      const int subs = outputs || index >= scales ? kSubs : 1;
      const int in_slab = index < scales ? index : index - scales;
      array[i] = reinterpret_cast<const std::byte*>((index < scales ? from.scales : from.minima) + in_slab * from.n +
                                                    (outputs ? output : token) + at);
      step[i] = Slab::kSlices * subs * from.n * 4;
      array_slice[i] = e < Slab::kArrayPieces ? in_slab / subs : kNoArray;
    }
  }

  /// Begins to copy the next slab to `slab`.
  GRETA_DEVICE void fetch(std::byte* slab) {
    const bool valid = thread_id() % Slab::kRowPieces * kPieceBytes / 32 < slices_left;
    GRETA_UNROLL
    for (int i = 0; i < kCodeCopies; ++i)
      start(i, code_to(slab, i), i < kOutputCopies ? codes[0] + i * rows_apart : codes[1] + (i - kOutputCopies) * rows_apart,
            valid);
    GRETA_UNROLL
    for (int i = 0; i < kArrayCopies; ++i) {
      if (array_slice[i] != kNoArray) start(kCodeCopies + i, array_to(slab, i), array[i], array_slice[i] < slices_left);
      array[i] += step[i];
    }
    codes[0] += Slab::kRowBytes;
    codes[1] += Slab::kRowBytes;
    slices_left -= Slab::kSlices;
  }
  /// Ends it, where copies do not run by themselves.
  GRETA_DEVICE void keep(std::byte* slab) const {
    if constexpr (!kAsyncCopies) {
      GRETA_UNROLL
      for (int i = 0; i < kCodeCopies; ++i) *reinterpret_cast<Piece*>(code_to(slab, i)) = held[i];
      GRETA_UNROLL
      for (int i = 0; i < kArrayCopies; ++i)
        if (array_slice[i] != kNoArray) *reinterpret_cast<Piece*>(array_to(slab, i)) = held[kCodeCopies + i];
    }
  }

 private:
  static constexpr int kNoArray = 1 << 20;

  GRETA_DEVICE static std::byte* code_to(std::byte* slab, int i) {
    const int row = thread_id() / Slab::kRowPieces, byte = thread_id() % Slab::kRowPieces * kPieceBytes;
    return slab + Slab::code_at(row, byte) + i * kRowsApart * Slab::kRowBytes;
  }
  GRETA_DEVICE static std::byte* array_to(std::byte* slab, int i) {
    return slab + (Slab::kCodePieces + i * kQ8Threads + thread_id()) * kPieceBytes;
  }
  GRETA_DEVICE void start(int i, std::byte* to, const std::byte* from, bool valid) {
    if constexpr (kAsyncCopies)
      copy_async(to, from, valid);
    else
      held[i] = valid ? load_piece(from) : Piece{};
  }
};

/// An exact sum of codes begins here, so that its bits are those of 12582912 + sum in F32 (|sum| < 2^22), which a subtraction
/// turns into the sum: conversions of integers are slow on some hardware.
inline constexpr std::int32_t kCountFrom = 0x4b400000;
GRETA_DEVICE float counted(std::int32_t sum) { return float_of(static_cast<std::uint32_t>(sum)) - 12582912.0f; }

/// Where a wave's tiles begin in the block's, and the byte of the lane's codes in a row of tiles that begins the slab: in slice
/// s they are at `lane` ^ 32 s, and 8 rows on as many rows on.
struct Q8Place {
  int output, token, lane;
};

/// Adds slice `slice` of a slab to the sums of this wave's tiles.
template <int kSubs, bool kMinima, KernelFault kFault>
GRETA_DEVICE void add_slice(const std::byte* slab, int slice, const Q8Place& at,
                            Results (&sum)[kQ8OutputTiles][kQ8TokenTiles]) {
  using Slab = Q8Slab<kSubs, kMinima>;
  const std::byte* const codes = slab + (at.lane ^ 32 * slice);
  const auto codes_of = [&](int row) { return *reinterpret_cast<const Codes8*>(codes + row * Slab::kRowBytes); };
  Codes8 b[kQ8TokenTiles];
  GRETA_UNROLL
  for (int n = 0; n < kQ8TokenTiles; ++n) b[n] = codes_of(kQ8BlockOutputs + at.token + n * kTileTokens);
  GRETA_UNROLL
  for (int s = 0; s < kSubs; ++s) {
    const int sub = slice * kSubs + s;
    GRETA_UNROLL
    for (int m = 0; m < kQ8OutputTiles; ++m) {
      CodesA a;
      GRETA_UNROLL
      for (int i = 0; i < kLaneRows; ++i) {
        a.row[i] = codes_of(at.output + m * kTileRows + 8 * i);
        // Of the 32 codes only those of the sub-block.
        if (kSubs == 2 && tile_depth() / 16 != s) a.row[i] = {};
      }
      GRETA_UNROLL
      for (int n = 0; n < kQ8TokenTiles; ++n) {
        CodeSums dot{{kCountFrom, kCountFrom, kCountFrom, kCountFrom}};
        multiply_codes(dot, a, b[n]);
        GRETA_UNROLL
        for (int i = 0; i < kTileResults; ++i) {
          const int row = at.output + m * kTileRows + result_row(i), token = at.token + n * kTileTokens + result_token(i);
          float& total = sum[m][n].at[i];
          const float scale = Slab::scales(slab, sub)[row] * Slab::row_scales(slab, slice)[token];
          total = held<kFault>(fma(scale, counted(dot.at[i]), total));
          if constexpr (kMinima)
            total = held<kFault>(fma(Slab::minima(slab, sub)[row], Slab::row_sums(slab, sub)[token], total));
        }
      }
    }
  }
}

template <int kSubs, bool kMinima, KernelFault kFault>
GRETA_KERNEL_OF(kQ8Threads, 2)
q8_many(Q8ManyOperands q) {
  using Slab = Q8Slab<kSubs, kMinima>;
  std::byte* const slabs = shared_memory();
  const std::int64_t output_tiles = q.weights.n / kQ8BlockOutputs;
  const std::int64_t output = block_x() % output_tiles * kQ8BlockOutputs;
  const std::int64_t token = block_x() / output_tiles * kQ8BlockTokens;
  const Q8Place at{wave_id() % kQ8RowWaves * kQ8OutputTiles * kTileRows, wave_id() / kQ8RowWaves * kQ8TokenTiles * kTileTokens,
                   Slab::code_at(tile_token(), tile_depth())};
  const int n_slabs = static_cast<int>((q.p.n_slices + Slab::kSlices - 1) / Slab::kSlices);
  const auto slab_of = [&](int s) { return slabs + s % Slab::kSlabs * Slab::kBytes; };
  Q8SlabCopy<kSubs, kMinima> copy(q, output, token);

  for (int s = 0; s < Slab::kSlabs - 1; ++s) {
    if (s < n_slabs) copy.fetch(slab_of(s));
    commit_copies();
    if (s < n_slabs) copy.keep(slab_of(s));
  }
  Results sum[kQ8OutputTiles][kQ8TokenTiles] = {};
  for (int s = 0; s < n_slabs; ++s) {
    wait_copies<Slab::kSlabs - 2>();
    block_barrier();  // slab s is there for all, and all are done with the one that is overwritten next
    const int next = s + Slab::kSlabs - 1;
    if (next < n_slabs) copy.fetch(slab_of(next));
    commit_copies();
    for (int slice = 0; slice < Slab::kSlices && s * Slab::kSlices + slice < q.p.n_slices; ++slice)
      add_slice<kSubs, kMinima, kFault>(slab_of(s), slice, at, sum);
    if (next < n_slabs) copy.keep(slab_of(next));
  }
  GRETA_UNROLL
  for (int m = 0; m < kQ8OutputTiles; ++m) {
    GRETA_UNROLL
    for (int n = 0; n < kQ8TokenTiles; ++n) {
      GRETA_UNROLL
      for (int i = 0; i < kTileResults; ++i) {
        const std::int64_t o = q.first + output + at.output + m * kTileRows + result_row(i);
        const std::int64_t row = token + at.token + n * kTileTokens + result_token(i);
        if (o < q.p.n_out && row < q.p.n_rows) store_q8(q.p, row, o, sum[m][n].at[i]);
      }
    }
  }
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
