// matmul_q8 for few rows: bound by the reading of weights. A wave computes kOuts outputs: segments of their rows pass
// through its part of shared memory, each lane multiplies one slice of 32 codes of every output, and one lane an output and row
// adds the slices' terms in order.
#pragma once

#include "core/activation_blocks.h"
#include "ops/gpu/kernels/q8_operands.h"

namespace greta::gpu::GRETA_GPU_TARGET {

inline constexpr int kSpan = kWave == 32 ? 256 : 128;  // slices of x that are in shared memory together
static_assert(kSpan % kWave == 0);
inline constexpr int kXBytes = static_cast<int>(sizeof(BlockQ8F32));

/// Bytes in shared memory of a row of x with so many slices: of the part that is there together.
GRETA_HOST_DEVICE constexpr int span_bytes(std::int64_t n_slices) {
  return (static_cast<int>(n_slices < kSpan ? n_slices : kSpan) * kXBytes + 2 * kPieceBytes - 2) / kPieceBytes * kPieceBytes;
}

/// What an output's sum takes of a sub-block: fma(scale, dot, sum), then, where there are minima, fma(minimum, x, sum).
template <bool kMinima>
struct alignas(8) Term {
  float scale, dot;
};
template <>
struct alignas(16) Term<true> {
  float scale, dot, minimum, x;
};

/// kOuts: outputs of a wave. kRows: rows of a block.
template <DType kType, int kOuts, int kRows>
struct Q8FewShape {
  using Slice = SliceOf<kType>;
  static constexpr bool kMinima = Slice::kFormat.minima;
  static constexpr int kSegmentBytes = kWave / Slice::kSlices * Slice::kBlockBytes;    // of an output: a slice for every lane
  static constexpr int kPieces = (kSegmentBytes + kPieceBytes - 2) / kPieceBytes + 1;  // that hold it wherever it begins
  static constexpr int kStaged = kPieces * kPieceBytes;
  static constexpr int kStages = kAsyncCopies ? 2 : 1;
  static constexpr int kCopies = (kOuts * kPieces + kWave - 1) / kWave;  // of a lane, for a segment
  static constexpr int kTerms = kWave * Slice::kSubs + 2;  // of an output and row; 2 more set those of others in other banks
  static constexpr int kStageBytes = kOuts * kStaged;
  static constexpr int kTermBytes = kOuts * kRows * kTerms * static_cast<int>(sizeof(Term<kMinima>));
  static constexpr int kWaveBytes = (kStages * kStageBytes + kTermBytes + kPieceBytes - 1) / kPieceBytes * kPieceBytes;
  static_assert(kWave % Slice::kSlices == 0 && kOuts * kRows <= kWave);
};

/// Bytes [begin, end), and where they are in the pieces that hold them.
struct Extent {
  const std::byte* begin;
  const std::byte* end;
  GRETA_DEVICE int offset() const { return static_cast<int>(reinterpret_cast<std::uintptr_t>(begin) % kPieceBytes); }
  GRETA_DEVICE const std::byte* piece(int i) const { return begin - offset() + i * kPieceBytes; }
};

/// One lane's share of the copies of a wave's segments: in each of them the same pieces of the same outputs.
template <class Shape, int kOuts>
struct SegmentCopy {
  const std::byte* row[Shape::kCopies];
  int readable[Shape::kCopies];  // bytes from the row's beginning on; behind the last row's end nothing is read
  int row_bytes;

  GRETA_DEVICE SegmentCopy(const Q8Operands& p, std::int64_t first_output) : row_bytes(static_cast<int>(p.row_bytes)) {
    GRETA_UNROLL
    for (int i = 0; i < Shape::kCopies; ++i) {
      const std::int64_t output = first_output + (lane_id() + i * kWave) / Shape::kPieces;
      row[i] = p.weight + (output < p.n_out ? output : p.n_out - 1) * p.row_bytes;
      readable[i] = row_bytes + (output < p.n_out - 1 ? kPieceBytes : 0);
    }
  }
  /// Begins to copy the segment that is `begin` bytes into its rows to `stage`: output o to stage + o * kStaged, with the bytes
  /// that share its first piece before it.
  GRETA_DEVICE void fetch(int begin, std::byte* stage) const {
    const int left = row_bytes - begin, bytes = left < Shape::kSegmentBytes ? left : Shape::kSegmentBytes;
    GRETA_UNROLL
    for (int i = 0; i < Shape::kCopies; ++i) {
      const int e = lane_id() + i * kWave, o = e / Shape::kPieces, at = e % Shape::kPieces * kPieceBytes;
      const Extent extent{row[i] + begin, row[i] + begin + bytes};
      if (o >= kOuts || at >= extent.offset() + bytes) continue;
      const std::byte* from = extent.begin - extent.offset() + at;
      std::byte* const to = stage + o * Shape::kStaged + at;
      if constexpr (kAsyncCopies) {
        if (readable[i] - (begin - extent.offset() + at) >= kPieceBytes) {
          copy_async(to, from, true);
          continue;
        }
      }
      *reinterpret_cast<Piece*>(to) = load_within(from, extent.begin, extent.end);
    }
  }
};

/// Copies slices [first, first + kSpan) of the block's rows of x, by all threads.
template <int kRows>
GRETA_DEVICE void load_span(const Q8Operands& p, int first_row, std::int64_t first, std::byte* span, int (&offset)[kRows]) {
  for (int r = 0; r < kRows; ++r) {
    const std::byte* row = p.x + (first_row + r < p.n_rows ? first_row + r : p.n_rows - 1) * p.x_stride;
    const std::int64_t left = p.n_slices - first, n = left < kSpan ? left : kSpan;
    const Extent extent{row + first * kXBytes, row + (first + n) * kXBytes};
    offset[r] = extent.offset();
    for (int i = thread_id(); extent.piece(i) < extent.end; i += block_threads())
      *reinterpret_cast<Piece*>(span + r * span_bytes(p.n_slices) + i * kPieceBytes) =
          load_within(extent.piece(i), extent.begin, extent.end);
  }
}

/// A lane's slice of a row of x.
template <int kSubs>
struct XSlice {
  std::uint32_t codes[8];
  float d;
  std::int32_t start[kSubs];  // of the integer sums: -kOffset times the sum of the sub-block's codes
  float sums[kSubs];          // d * sum of the sub-block's codes, where there are minima
};
template <class Slice>
GRETA_DEVICE XSlice<Slice::kSubs> load_x(const std::byte* block) {
  constexpr int kWords = 8 / Slice::kSubs;
  XSlice<Slice::kSubs> out;
  const auto* words = reinterpret_cast<const std::uint32_t*>(block);
  out.d = float_of(words[0]);
  for (int i = 0; i < 8; ++i) out.codes[i] = words[i + 1];
  for (int s = 0; s < Slice::kSubs; ++s) {
    std::int32_t sum = 0;
    if constexpr (Slice::kOffset != 0 || Slice::kFormat.minima)
      for (int i = s * kWords; i < (s + 1) * kWords; ++i) sum = dot4(sum, out.codes[i], 0x01010101u);
    out.start[s] = -Slice::kOffset * sum;
    out.sums[s] = out.d * static_cast<float>(sum);
  }
  return out;
}

/// Terms of this lane's slice for every output and row. `low`: the low bits of where each output's segment begins.
template <DType kType, int kOuts, int kRows, class Shape>
GRETA_DEVICE void multiply_slices(const std::byte* stage, const int (&low)[kOuts], int begin,
                                  const std::byte* const (&x_block)[kRows], Term<Shape::kMinima>* terms) {
  using Slice = typename Shape::Slice;
  constexpr int kSubs = Slice::kSubs, kWords = 8 / kSubs;
  XSlice<kSubs> x[kRows];
  GRETA_UNROLL
  for (int r = 0; r < kRows; ++r) x[r] = load_x<Slice>(x_block[r]);
  const std::byte* const block = stage + lane_id() / Slice::kSlices * Slice::kBlockBytes;
  GRETA_UNROLL
  for (int o = 0; o < kOuts; ++o) {
    const auto w = unpack_slice<kType>(block + o * Shape::kStaged + (low[o] + begin) % kPieceBytes, lane_id() % Slice::kSlices);
    GRETA_UNROLL
    for (int r = 0; r < kRows; ++r) {
      GRETA_UNROLL
      for (int s = 0; s < kSubs; ++s) {
        std::int32_t dot = x[r].start[s];
        for (int i = s * kWords; i < (s + 1) * kWords; ++i) dot = dot4(dot, w.codes[i], x[r].codes[i]);
        Term<Shape::kMinima>& term = terms[(o * kRows + r) * Shape::kTerms + lane_id() * kSubs + s];
        if constexpr (Shape::kMinima)
          term = {w.d[s] * x[r].d, static_cast<float>(dot), w.m[s], x[r].sums[s]};
        else
          term = {w.d[s] * x[r].d, static_cast<float>(dot)};
      }
    }
  }
}

/// Adds `n` terms of one output and row to its sum, in order.
template <KernelFault kFault, bool kMinima>
GRETA_DEVICE float add_terms(float sum, const Term<kMinima>* terms, int n) {
  GRETA_UNROLL_BY(8)
  for (int s = 0; s < n; ++s) {
    const Term<kMinima> term = terms[s];
    sum = held<kFault>(fma(term.scale, term.dot, sum));
    if constexpr (kMinima) sum = held<kFault>(fma(term.minimum, term.x, sum));
  }
  return sum;
}

template <DType kType, int kOuts, int kRows, KernelFault kFault>
GRETA_KERNEL_OF(kQ8FewThreads, 1)
q8_few(Q8Operands p) {
  using Shape = Q8FewShape<kType, kOuts, kRows>;
  constexpr int kSums = kOuts * kRows;  // of a wave: output lane / kRows and row lane % kRows are the lane's
  std::byte* const span = shared_memory();
  std::byte* const mine = span + kRows * span_bytes(p.n_slices) + wave_id() * Shape::kWaveBytes;
  auto* const terms = reinterpret_cast<Term<Shape::kMinima>*>(mine + Shape::kStages * Shape::kStageBytes);
  const auto stage = [&](int segment) { return mine + segment % Shape::kStages * Shape::kStageBytes; };
  const std::int64_t first_output = (static_cast<std::int64_t>(block_x()) * (block_threads() / kWave) + wave_id()) * kOuts;
  const int first_row = block_y() * kRows;
  const int n_slices = static_cast<int>(p.n_slices), n_segments = (n_slices + kWave - 1) / kWave;

  const SegmentCopy<Shape, kOuts> copy(p, first_output);
  if constexpr (kAsyncCopies) {
    for (int s = 0; s < Shape::kStages - 1; ++s) {
      if (s < n_segments) copy.fetch(s * Shape::kSegmentBytes, stage(s));
      commit_copies();
    }
  }
  int low[kOuts];
  GRETA_UNROLL
  for (int o = 0; o < kOuts; ++o) {
    const std::int64_t output = first_output + o < p.n_out ? first_output + o : p.n_out - 1;
    low[o] = static_cast<int>(reinterpret_cast<std::uintptr_t>(p.weight + output * p.row_bytes) % kPieceBytes);
  }
  float sum = 0;
  int offset[kRows] = {};
  for (int segment = 0; segment < n_segments; ++segment) {
    const int in_span = segment * kWave % kSpan;
    if (in_span == 0) {
      if (segment > 0) block_barrier();
      load_span<kRows>(p, first_row, segment * kWave, span, offset);
      block_barrier();
    }
    if constexpr (kAsyncCopies)
      wait_copies<(Shape::kStages > 1 ? Shape::kStages - 2 : 0)>();
    else
      copy.fetch(segment * Shape::kSegmentBytes, stage(segment));
    wave_barrier();  // the segment is there, and all lanes are done with the one before
    if constexpr (kAsyncCopies) {
      const int next = segment + Shape::kStages - 1;
      if (next < n_segments) copy.fetch(next * Shape::kSegmentBytes, stage(next));
      commit_copies();
    }
    const int left = n_slices - segment * kWave, slices = left < kWave ? left : kWave;
    if (lane_id() < slices) {
      const std::byte* x_block[kRows];
      for (int r = 0; r < kRows; ++r)
        x_block[r] = span + r * span_bytes(p.n_slices) + offset[r] + (in_span + lane_id()) * kXBytes;
      multiply_slices<kType, kOuts, kRows, Shape>(stage(segment), low, segment * Shape::kSegmentBytes, x_block, terms);
    }
    wave_barrier();
    if (lane_id() < kSums) {
      // The fault adds as many terms as a wave of the other size has.
      constexpr bool kWrong = kFault == KernelFault::wrong_wave_size;
      const int lanes = !kWrong ? slices : kWave == 32 ? 2 * slices : (slices + 1) / 2;
      const int at = lane_id() * Shape::kTerms, n = lanes * Shape::Slice::kSubs, end = kSums * Shape::kTerms - at;
      sum = add_terms<kFault, Shape::kMinima>(sum, terms + at, kWrong && n > end ? end : n);
    }
  }
  const std::int64_t output = first_output + lane_id() / kRows;
  const int row = first_row + lane_id() % kRows;
  if (lane_id() < kSums && output < p.n_out && row < p.n_rows) store_q8(p, row, output, sum);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
