// Mixtures on matrix cores, the same bits for every number of rows: V as it lies in the cache (f16 or bf16), probabilities
// split into terms of that type (terms.h), products summed in F32 over the keys of a split (kSplit absolute positions) in steps
// of 32 absolute positions; the sums of splits are added in order, as in pv.cpp. A head's elements are the tile's rows, query
// heads its tokens. Where a query has no key, its probability is taken as 0, which changes no bit of a sum: so no mixture
// depends on who else is in the tile.
//
// Not so where V is not finite. Such values are kept from the products, and a split's sum of an element that meets one, or
// whose probabilities cannot be split, is one chain of fused multiply-adds instead.
//
// V is needed with keys side by side and lies with elements side by side: a thread brings 8 keys by 4 elements and turns them.
// While a slab of keys is computed, the next one's probabilities, which come from far, are on their way to registers.
#include "ops/gpu/kernels/matmul_chunks.h"
#include "ops/gpu/kernels/pv_tile.h"
#include "ops/gpu/kernels/table.h"
#include "ops/gpu/kernels/terms.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr std::int32_t kFewRows = 64;  // up to here a tile has the heads of one row

/// Probabilities from 2^-29 on keep 22 bits; up to almost 2 they are split.
template <DType kType>
GRETA_DEVICE SplitScale prob_scale() {
  return split_scale<kType>(32768.0f);
}

/// A block's tile: elements by queries, kSlab keys at a time; kDownWaves by kAcrossWaves waves compute, all bring operands.
template <int kBlockThreads, int kTileElements, int kTileQueries, int kSlabKeys, int kDownWaves, int kAcrossWaves>
struct Tile {
  static constexpr int kElements = kTileElements, kQueries = kTileQueries, kSlab = kSlabKeys;
  static constexpr int kThreads = kBlockThreads, kBlocksAtOnce = kThreads == 128 ? 3 : 2;  // on a multiprocessor, at least
  static constexpr int kDown = kDownWaves, kAcross = kAcrossWaves;
  static constexpr int kM = kElements / kDown / kTileRows, kN = kQueries / kAcross / kTileTokens;  // tiles of a wave
  static constexpr int kEach = kM * kN * kTileResults;
  static constexpr int kTableBytes = static_cast<int>(MixTable<kQueries>::kBytes);
  static constexpr int kPieces = kSlab / 8;                               // of a row of a slab
  static constexpr int kBlockShare = kPieces * kElements / 4 / kThreads;  // blocks of 8 keys by 4 elements that a thread brings
  static constexpr int kPairShare = kQueries * kSlab / 2 / kThreads;
  static constexpr int kValueBytes = kElements * kSlab * 2, kTermBytes = kQueries * kSlab * 2;
  static_assert(kDown * kAcross <= kThreads / kWave && kPieces * kElements % (4 * kThreads) == 0 && kPieces % 8 == 0 &&
                kSplit % kSlab == 0);
  static_assert(kValueBytes >= kElements * kQueries * 4);  // where sums are mended

  static GRETA_DEVICE bool computes() { return wave_id() < kDown * kAcross; }
  /// Of result `at` of a thread: which element and which query of the tile.
  static GRETA_DEVICE int element(int at) {
    return (wave_id() / kAcross * kM + at / kTileResults / kN) * kTileRows + result_row(at % kTileResults);
  }
  static GRETA_DEVICE int query(int at) {
    return (wave_id() % kAcross * kN + at / kTileResults % kN) * kTileTokens + result_token(at % kTileResults);
  }
};
using FewTile = Tile<128, 32, kTileTokens, 256, 2, 1>;
using ManyTile = Tile<256, 128, 32, 64, 256 / kWave / 2, 2>;

/// The sign's place of each half of a word that is not finite.
template <DType kType>
GRETA_DEVICE std::uint32_t odd_halves(std::uint32_t word) {
  // An exponent of ones carries into the sign's place, and no further.
  if constexpr (kType == DType::f16) return ((word & 0x7c007c00u) + 0x04000400u) & 0x80008000u;
  return ((word & 0x7f807f80u) + 0x00800080u) & 0x80008000u;
}

/// What a block has and needs along its way through the keys.
template <class Tile>
struct Mix {
  const PvArgs& args;
  MixTable<Tile::kQueries>& table;
  const std::byte* slots;  // first slot of the run's sequence, at the head's elements
  Range run;               // queries
  int end;                 // keys from here on are not read
  std::byte* values;       // staged
  std::byte* terms;
  float* totals;  // [kEach][kThreads]: sums of splits so far, of each thread its own; registers are short

  GRETA_DEVICE float& total(int i) const { return totals[i * Tile::kThreads + thread_id()]; }
};

struct alignas(8) Quad {
  std::uint32_t word[2];
};
/// Numbers c .. c + 3 of 16 bits of a row of n; beyond its end some others of it. Aligned: to 8 bytes, c and n to 4.
template <bool kAligned>
GRETA_DEVICE Quad load_quad(const std::byte* row, int c, int n) {
  if constexpr (kAligned) return *reinterpret_cast<const Quad*>(row + 2 * least(c, n - 4));
  const auto* numbers = reinterpret_cast<const std::uint16_t*>(row);
  Quad quad;
  GRETA_UNROLL
  for (int w = 0; w < 2; ++w) {
    quad.word[w] = static_cast<std::uint32_t>(numbers[least(c + 2 * w, n - 1)]) |
                   static_cast<std::uint32_t>(numbers[least(c + 2 * w + 1, n - 1)]) << 16;
  }
  return quad;
}

/// A thread's share of the values of a slab: blocks of 8 keys by 4 elements. Beyond the last key and the last element something
/// else stands in their place, which meets probabilities of 0 or is not written: loads without conditions are all on their way
/// at once.
template <class Tile, bool kAligned>
struct Values {
  Quad quad[Tile::kBlockShare][8];

  static GRETA_DEVICE int at(int b) { return thread_id() + b * Tile::kThreads; }
  // Neighbours bring what lies side by side.
  static constexpr int kQuads = Tile::kElements / 4;
  static GRETA_DEVICE int piece(int b) { return at(b) % 2 + at(b) / (2 * kQuads) * 2; }
  static GRETA_DEVICE int element(int b) { return at(b) / 2 % kQuads * 4; }

  GRETA_DEVICE void load(const Mix<Tile>& mix, int key) {
    GRETA_UNROLL
    for (int b = 0; b < Tile::kBlockShare; ++b) {
      const int first = key + piece(b) * 8;
      GRETA_UNROLL
      for (int k = 0; k < 8; ++k) {
        const std::byte* slot = mix.slots + least(first + k, mix.end - 1) * mix.args.values.slot_stride;
        quad[b][k] = load_quad<kAligned>(slot, block_x() * Tile::kElements + element(b), mix.args.head_dim);
      }
    }
  }
  /// To shared memory, turned, without what is not finite.
  template <DType kType>
  GRETA_DEVICE void store(const Mix<Tile>& mix) {
    GRETA_UNROLL
    for (int b = 0; b < Tile::kBlockShare; ++b) {
      std::uint32_t odd = 0;
      GRETA_UNROLL
      for (int k = 0; k < 8; ++k) odd |= odd_halves<kType>(quad[b][k].word[0]) | odd_halves<kType>(quad[b][k].word[1]);
      if (odd != 0) {
        mix.table.odd = 1;
        GRETA_UNROLL
        for (int k = 0; k < 8; ++k) {
          GRETA_UNROLL
          for (int w = 0; w < 2; ++w) quad[b][k].word[w] &= ~((odd_halves<kType>(quad[b][k].word[w]) >> 15) * 0xffffu);
        }
      }
      GRETA_UNROLL
      for (int e = 0; e < 4; ++e) {
        Piece turned;
        GRETA_UNROLL
        for (int w = 0; w < 4; ++w) {
          const std::uint32_t first = quad[b][2 * w].word[e / 2], second = quad[b][2 * w + 1].word[e / 2];
          turned.word[w] = e % 2 == 0 ? (first & 0xffffu) | second << 16 : first >> 16 | (second & 0xffff0000u);
        }
        *reinterpret_cast<Piece*>(mix.values + staged_at(element(b) + e, piece(b), Tile::kPieces)) = turned;
      }
    }
  }
};

/// A thread's share of the probabilities of a slab: pairs of neighbouring keys.
template <class Tile>
struct Probs {
  float pair[Tile::kPairShare][2];

  static GRETA_DEVICE int at(int p) { return thread_id() + p * Tile::kThreads; }
  GRETA_DEVICE void load(const Mix<Tile>& mix, int key) {
    GRETA_UNROLL
    for (int p = 0; p < Tile::kPairShare; ++p) {
      const int q = at(p) / (Tile::kSlab / 2), j = key + at(p) % (Tile::kSlab / 2) * 2;
      const bool in_run = q >= mix.run.begin && q < mix.run.end;
      const int keys = mix.table.keys[q], first = in_run ? mix.table.first[q] : keys;
      GRETA_UNROLL
      for (int k = 0; k < 2; ++k) {
        const float prob = mix.table.probs[q][least(j + k, keys > 0 ? keys - 1 : 0)];
        pair[p][k] = j + k >= first && j + k < keys ? prob : 0.0f;
      }
    }
  }
  template <DType kType>
  GRETA_DEVICE void store(const Mix<Tile>& mix) const {
    GRETA_UNROLL
    for (int p = 0; p < Tile::kPairShare; ++p) {
      const int q = at(p) / (Tile::kSlab / 2), pair_at = at(p) % (Tile::kSlab / 2);
      if (!can_be_split(pair[p][0], prob_scale<kType>()) || !can_be_split(pair[p][1], prob_scale<kType>())) mix.table.odd = 1;
      std::uint32_t term[kTerms<kType>];
      split_two<kType>(pair[p][0], pair[p][1], prob_scale<kType>(), term);
      std::byte* to = mix.terms + staged_at(q, pair_at / 4, Tile::kPieces) + pair_at % 4 * 4;
      GRETA_UNROLL
      for (int t = 0; t < kTerms<kType>; ++t) *reinterpret_cast<std::uint32_t*>(to + t * Tile::kTermBytes) = term[t];
    }
  }
};

/// sum += the slab's products.
template <DType kType, class Tile, KernelFault kFault>
GRETA_DEVICE void add_slab(const Mix<Tile>& mix, TermSums (&sum)[Tile::kM * Tile::kN]) {
  const int first_row = wave_id() / Tile::kAcross * Tile::kM * kTileRows;
  const int first_query = wave_id() % Tile::kAcross * Tile::kN * kTileTokens;
  GRETA_UNROLL_BY(2)
  for (int k = 0; k < Tile::kSlab; k += kTileDepth) {
    const int piece = (k + tile_depth()) / 8;
    TileA a[Tile::kM];
    GRETA_UNROLL
    for (int m = 0; m < Tile::kM; ++m) {
      GRETA_UNROLL
      for (int i = 0; i < kLaneRows; ++i)
        a[m].piece[i] = load_piece(mix.values + staged_at(first_row + m * kTileRows + tile_row(i), piece, Tile::kPieces));
    }
    GRETA_UNROLL
    for (int n = 0; n < Tile::kN; ++n) {
      TileB b[kTerms<kType>];
      GRETA_UNROLL
      for (int t = 0; t < kTerms<kType>; ++t)
        b[t].piece = load_piece(mix.terms + t * Tile::kTermBytes +
                                staged_at(first_query + n * kTileTokens + tile_token(), piece, Tile::kPieces));
      GRETA_UNROLL
      for (int m = 0; m < Tile::kM; ++m) {
        TermSums& own = sum[m * Tile::kN + n];
        multiply_terms<kType>(own, a[m], b);
        if constexpr (kFault == KernelFault::f16_accumulation) {
          GRETA_UNROLL
          for (int i = 0; i < kTileResults; ++i)
            own.first[0].at[i] = through_half(own.first[0].at[i] * prob_scale<kType>().down) * prob_scale<kType>().up;
        }
      }
    }
  }
}

/// The split's sums in shared memory, [kQueries][kElements], where those that matrix cores cannot compute are replaced: an
/// element's whose values among the query's keys are not all finite, a query's whose probabilities cannot all be split.
template <DType kType, class Tile>
GRETA_DEVICE void mend(const Mix<Tile>& mix, int split, float* sums) {
  for (int at = thread_id(); at < Tile::kQueries * Tile::kElements; at += Tile::kThreads) {
    const int q = at / Tile::kElements, element = block_x() * Tile::kElements + at % Tile::kElements;
    if (q < mix.run.begin || q >= mix.run.end || element >= mix.args.head_dim) continue;
    const int begin = mix.table.first[q] > split ? mix.table.first[q] : split;
    const int end = least(mix.table.keys[q], split + kSplit);
    float chain = 0.0f;
    bool odd = false;
    for (int j = begin; j < end; ++j) {
      const float p = mix.table.probs[q][j], v = load_number(kType, mix.slots + j * mix.args.values.slot_stride, element);
      odd = odd || !can_be_split(p, prob_scale<kType>()) || !(v - v == 0.0f);
      chain = fma(p, v, chain);
    }
    if (odd) sums[at] = chain;
  }
}

/// Adds the split's sums to the totals, and begins new ones.
template <DType kType, class Tile>
GRETA_DEVICE void end_split(const Mix<Tile>& mix, int split, TermSums (&sum)[Tile::kM * Tile::kN]) {
  float own[Tile::kEach];
  GRETA_UNROLL
  for (int i = 0; i < Tile::kEach; ++i) own[i] = term_sum<kType>(sum[i / kTileResults], i % kTileResults, prob_scale<kType>());
  if (mix.table.odd != 0) {  // the same for all: written before the barrier behind the last slab's staging
    float* sums = reinterpret_cast<float*>(mix.values);
    block_barrier();  // the slab is done with
    if (Tile::computes()) {
      GRETA_UNROLL
      for (int i = 0; i < Tile::kEach; ++i) sums[Tile::query(i) * Tile::kElements + Tile::element(i)] = own[i];
    }
    block_barrier();
    mend<kType>(mix, split, sums);
    block_barrier();
    if (Tile::computes()) {
      GRETA_UNROLL
      for (int i = 0; i < Tile::kEach; ++i) own[i] = sums[Tile::query(i) * Tile::kElements + Tile::element(i)];
    }
  }
  GRETA_UNROLL
  for (int i = 0; i < Tile::kEach; ++i) {
    const int q = Tile::computes() ? Tile::query(i) : 0;
    if (mix.table.first[q] < split + kSplit && mix.table.keys[q] > split) mix.total(i) = mix.total(i) + own[i];
  }
  GRETA_UNROLL
  for (int n = 0; n < Tile::kM * Tile::kN; ++n) sum[n] = TermSums{};
}

/// Mixtures of the run's queries over their keys in `range`; -0 where there are none, which counts as no sum.
template <DType kType, class Tile, bool kAligned, KernelFault kFault>
GRETA_DEVICE void mix_run(const Mix<Tile>& mix, int begin) {
  TermSums sum[Tile::kM * Tile::kN];
  GRETA_UNROLL
  for (int i = 0; i < Tile::kEach; ++i) mix.total(i) = -0.0f;
  if (begin >= mix.end) return;
  Probs<Tile> probs;
  probs.load(mix, begin);
  for (int key = begin; key < mix.end; key += Tile::kSlab) {
    Values<Tile, kAligned> values;
    values.load(mix, key);
    block_barrier();  // the slab before is done with
    probs.template store<kType>(mix);
    values.template store<kType>(mix);
    block_barrier();
    const int next = key + Tile::kSlab;
    if (next < mix.end) probs.load(mix, next);
    if (Tile::computes()) add_slab<kType, Tile, kFault>(mix, sum);
    if (next % kSplit == 0 || next >= mix.end) end_split<kType>(mix, key / kSplit * kSplit, sum);
  }
}

/// Block (tile of elements, tile of queries, KV head by split). The last tiles, which have most keys, come first.
template <DType kType, class Tile, bool kAligned, KernelFault kFault>
GRETA_KERNEL_OF(Tile::kThreads, Tile::kBlocksAtOnce)
pv_kernel(PvArgs args, MixShare share) {
  auto& table = *reinterpret_cast<MixTable<Tile::kQueries>*>(shared_memory());
  std::byte* staged = shared_memory() + Tile::kTableBytes;
  auto* totals = reinterpret_cast<float*>(staged + Tile::kValueBytes + kTerms<kType> * Tile::kTermBytes);
  const MixBlock block(args, share, Tile::kQueries, grid_y() - 1 - block_y());
  fill_table(args, block.kv_head, block.first, block.end, block.range.end, table);
  if (table.most <= block.range.begin) return;
  if (thread_id() < Tile::kQueries) table.out[thread_id()] = block.out(args, share, thread_id());
  block_barrier();
  const int count = block.end - block.first < Tile::kQueries ? static_cast<int>(block.end - block.first) : Tile::kQueries;
  for (int begin = 0; begin < count;) {
    int stop = table.mixed != 0 ? begin + 1 : count;
    while (stop < count && table.sequence[stop] == table.sequence[begin]) ++stop;
    int first = args.window > 0 ? 0x7fffffff : 0;
    for (int q = begin; q < stop && args.window > 0; ++q) first = least(table.first[q], first);
    const int end = largest_between(table.keys, begin, stop, 0);
    first = (first > block.range.begin ? first : block.range.begin) / Tile::kSlab * Tile::kSlab;
    const std::byte* slots = args.values.base + table.sequence[begin] * args.values.sequence_stride +
                             std::int64_t{block.kv_head} * args.head_dim * 2;
    const Mix<Tile> mix{args,  table, slots, {begin, stop}, least(end, block.range.end), staged, staged + Tile::kValueBytes,
                        totals};
    mix_run<kType, Tile, kAligned, kFault>(mix, first);
    GRETA_UNROLL
    for (int i = 0; i < Tile::kEach; ++i) {
      const int q = Tile::query(i), element = block_x() * Tile::kElements + Tile::element(i);
      if (Tile::computes() && q >= begin && q < stop && element < args.head_dim) table.out[q][element] = mix.total(i);
    }
    begin = stop;
  }
}

template <DType kType, class Tile, bool kAligned, KernelFault kFault>
void run(Stream stream, const PvArgs& args, bool one_row_a_tile) {
  const MixShare share(args, Tile::kQueries, one_row_a_tile);
  launch({"pv", stream, (args.head_dim + Tile::kElements - 1) / Tile::kElements, share.tiles(args, Tile::kQueries),
          share.depth(args), Tile::kThreads,
          static_cast<std::size_t>(Tile::kTableBytes + Tile::kValueBytes + kTerms<kType> * Tile::kTermBytes +
                                   Tile::kEach * Tile::kThreads * 4)},
         pv_kernel<kType, Tile, kAligned, kFault>, args, share);
  merge_splits(stream, args);
}

template <DType kType, bool kAligned, KernelFault kFault>
void by_rows(Stream stream, const PvArgs& args) {
  if (args.rows.n <= kFewRows) return run<kType, FewTile, kAligned, kFault>(stream, args, true);
  run<kType, ManyTile, kAligned, kFault>(stream, args, false);
}

template <DType kType>
void by_alignment(Stream stream, const PvArgs& args) {
  const bool aligned = args.head_dim % 8 == 0 && all_aligned(args.values.base) &&
                       (args.values.sequence_stride | args.values.slot_stride) % 16 == 0;
  if (args.fault == KernelFault::f16_accumulation) return by_rows<kType, false, KernelFault::f16_accumulation>(stream, args);
  if (aligned) return by_rows<kType, true, KernelFault::none>(stream, args);
  by_rows<kType, false, KernelFault::none>(stream, args);
}

}  // namespace

void pv_invariant(Stream stream, const PvArgs& args) {
  if (args.values.dtype == DType::f16) return by_alignment<DType::f16>(stream, args);
  by_alignment<DType::bf16>(stream, args);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
