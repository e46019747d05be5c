// A block's tile of mixtures (pv.cpp): who its queries are, and the way through the keys.
#pragma once

#include "ops/gpu/kernels/numbers.h"

namespace greta::gpu::GRETA_GPU_TARGET {

/// Keys of a split of route `invariant`, at absolute positions.
inline constexpr int kSplit = 256;

struct Range {
  int begin, end;
};

inline bool has_splits(const PvArgs& args) { return args.route == RouteId::invariant && args.rows.most_keys > kSplit; }
inline constexpr std::int32_t kFewSplitRows = 8;  // up to here splits are computed side by side
/// The fault is of the sums in scratch, so with it all rows have them there.
inline bool splits_side_by_side(const PvArgs& args) {
  return has_splits(args) && (args.rows.n <= kFewSplitRows || args.fault == KernelFault::merge_stride);
}
inline std::int64_t count_splits(const PvArgs& args) { return (args.rows.most_keys + kSplit - 1) / kSplit; }
/// Adds the sums of the splits in scratch, in order, where they were computed side by side.
void merge_splits(Stream stream, const PvArgs& args);

/// How a launch shares the queries of a KV head among blocks. `tiles_a_row`: tiles of the heads of one row; 0: tiles span rows.
/// `partial`: where the sums of splits go, [query][n_splits][head_dim]; null: a block computes all of its keys.
struct MixShare {
  int tiles_a_row = 0, n_splits = 0;
  float* partial = nullptr;

  MixShare(const PvArgs& args, int tile_queries, bool one_row_a_tile) {
    const int group = args.n_heads / args.n_kv_heads;
    if (one_row_a_tile) tiles_a_row = (group + tile_queries - 1) / tile_queries;
    n_splits = static_cast<int>(count_splits(args));
    if (splits_side_by_side(args)) partial = reinterpret_cast<float*>(args.scratch);
  }
  /// Blocks along y and z.
  std::int64_t tiles(const PvArgs& args, int tile_queries) const {
    if (tiles_a_row > 0) return std::int64_t{args.rows.n} * tiles_a_row;
    return (std::int64_t{args.rows.n} * (args.n_heads / args.n_kv_heads) + tile_queries - 1) / tile_queries;
  }
  std::int64_t depth(const PvArgs& args) const { return std::int64_t{args.n_kv_heads} * (partial != nullptr ? n_splits : 1); }
};
/// A block's part in it: queries [first, end) of its KV head at most, and their keys in `range`.
struct MixBlock {
  int kv_head;
  std::int64_t first, end;
  Range range{0, 0x7fffffff};

  GRETA_DEVICE MixBlock(const PvArgs& args, const MixShare& share, int tile_queries, int tile) {
    const int group = args.n_heads / args.n_kv_heads;
    kv_head = block_z() % args.n_kv_heads;
    first = std::int64_t{tile} * tile_queries;
    end = std::int64_t{args.rows.n} * group;
    if (share.tiles_a_row > 0) {
      const std::int64_t r = tile / share.tiles_a_row;
      first = r * group + tile % share.tiles_a_row * tile_queries;
      end = (r + 1) * group;
    }
    if (share.partial != nullptr) {
      range.begin = block_z() / args.n_kv_heads * kSplit;
      range.end = range.begin + kSplit;
    }
  }
  /// Where the mixture of query `q` of the block goes.
  GRETA_DEVICE float* out(const PvArgs& args, const MixShare& share, int q) const {
    const int group = args.n_heads / args.n_kv_heads;
    const int at = static_cast<int>(first) + q;
    const std::int64_t r = at / group, head = kv_head * group + at % group;
    if (share.partial != nullptr)
      return share.partial + ((r * args.n_heads + head) * share.n_splits + range.begin / kSplit) * args.head_dim;
    return reinterpret_cast<float*>(args.out.data + r * args.out.stride) + head * args.head_dim;
  }
};

/// kAcrossQ * kAcrossD threads; each has kEachQ queries by kEachD elements side by side. kTileKeys keys at a time.
template <int kEachQ, int kAcrossQ, int kEachD, int kAcrossD, int kTileKeys>
struct MixTile {
  static constexpr int kA = kEachQ, kD = kEachD, kKeys = kTileKeys, kEach = kA * kD;
  static constexpr int kThreads = kAcrossQ * kAcrossD;
  static constexpr int kQueries = kA * kAcrossQ, kElements = kD * kAcrossD;
  /// Staged: values [kKeys][kElements], then probabilities [kKeys][kProbStride].
  static constexpr int kProbStride = kQueries + 4;
  static constexpr int kStaged = kKeys * (kElements + kProbStride);
  /// Pieces of 8 elements of values, and probabilities, that a thread brings.
  static constexpr int kPieces = kKeys * kElements / 8 / kThreads, kProbs = kKeys * kQueries / kThreads;
  static_assert(kKeys * kElements % (8 * kThreads) == 0 && kKeys * kQueries % kThreads == 0 && kSplit % kKeys == 0);

  static GRETA_DEVICE int first_query() { return thread_id() / kAcrossD * kA; }
  static GRETA_DEVICE int query(int i) { return first_query() + i; }
  static GRETA_DEVICE int staged_element(int d) { return thread_id() % kAcrossD * kD + d; }
  static GRETA_DEVICE int element(int d) { return block_x() * kElements + staged_element(d); }
};

/// What a block knows of its queries, in shared memory.
template <int kQueries>
struct MixTable {
  static constexpr std::size_t kBytes = kQueries * 28 + 16;
  const float* probs[kQueries];  // [keys] of the query head
  float* out[kQueries];          // [head_dim], where its mixture goes; here because scalar registers are short
  std::int32_t sequence[kQueries];
  std::int32_t keys[kQueries];   // position + 1; 0 where there is no query
  std::int32_t first[kQueries];  // first key that is not passed over
  std::int32_t mixed, most;      // several sequences; the largest of `keys`
  std::int32_t odd, pad;         // something that matrix cores do not take was met (pv_invariant.cpp)
};

/// Smallest j in [0, n) with probs[j] != 0, n where there is none; by a wave, the same in all lanes.
GRETA_DEVICE std::int32_t first_not_zero(const float* probs, std::int32_t n) {
  constexpr int kAhead = 8;  // loaded before they are looked at
  std::int32_t found = n;
  for (std::int32_t j = lane_id(); j < n && found == n; j += kAhead * kWave) {
    float p[kAhead];
    GRETA_UNROLL
    for (int k = 0; k < kAhead; ++k) p[k] = j + k * kWave < n ? probs[j + k * kWave] : 0.0f;
    GRETA_UNROLL
    for (int k = kAhead - 1; k >= 0; --k) found = p[k] != 0.0f ? j + k * kWave : found;
  }
  GRETA_UNROLL
  for (int mask = kWave / 2; mask > 0; mask /= 2) {
    const std::int32_t other = shuffle_xor(found, mask);
    found = other < found ? other : found;
  }
  return found;
}

/// Queries first.. of the KV head, of which only those below `end` are the block's. Keys from `last` on do not matter.
template <int kQueries>
GRETA_DEVICE void fill_table(const PvArgs& args, int kv_head, std::int64_t first, std::int64_t end, int last,
                             MixTable<kQueries>& table) {
  static_assert(sizeof(MixTable<kQueries>) <= MixTable<kQueries>::kBytes && MixTable<kQueries>::kBytes % 16 == 0);
  const int group = args.n_heads / args.n_kv_heads;
  const int i = thread_id();
  if (i == 0) table.mixed = table.odd = 0;
  if (i < kQueries) {
    table.keys[i] = table.first[i] = table.sequence[i] = 0;
    table.probs[i] = args.probs;
  }
  block_barrier();
  if (i < kQueries && first + i < end) {
    const int at = static_cast<int>(first) + i;
    const std::int64_t r = at / group;
    const int head = kv_head * group + at % group;
    const std::int32_t keys = args.rows.position[r] + 1;
    table.probs[i] = args.probs + args.rows.score_offset[r] + std::int64_t{head} * keys;
    table.sequence[i] = args.rows.sequence[r];
    table.keys[i] = keys;
    table.first[i] = args.window > 0 && keys > args.window ? keys - args.window : 0;
    if (table.sequence[i] != args.rows.sequence[static_cast<int>(first) / group]) table.mixed = 1;
  }
  block_barrier();
  for (int q = wave_id(); q < kQueries; q += block_threads() / kWave) {
    const std::int32_t masked = table.first[q];
    if (masked == 0) continue;
    const std::int32_t found = first_not_zero(table.probs[q], masked < last ? masked : last);
    wave_barrier();  // all lanes have read what one of them writes
    if (lane_id() == 0) table.first[q] = found < last ? found : masked;
  }
  const std::int32_t most = largest_between(table.keys, 0, kQueries, 0);
  if (i == 0) table.most = most;
  block_barrier();
}

/// A tile of keys on its way: values and probabilities in registers.
template <class Tile>
struct Coming {
  float values[Tile::kPieces][8];
  float probs[Tile::kProbs];

  /// Keys key.. of the run's sequence; `slots`: its first slot, at the head's elements. What lies beyond `end`, a query's keys
  /// or the head is never used, so something else is loaded in its place: loads without conditions are all on their way at
  /// once.
  GRETA_DEVICE void load(const PvArgs& args, const MixTable<Tile::kQueries>& table, const std::byte* slots, int key, int end,
                         bool aligned) {
    const DType dtype = args.values.dtype;
    const int bytes = dtype == DType::f32 ? 4 : 2;
    GRETA_UNROLL
    for (int p = 0; p < Tile::kPieces; ++p) {
      const int piece = thread_id() + p * Tile::kThreads;
      const int j = least(key + piece / (Tile::kElements / 8), end - 1);
      const int element = block_x() * Tile::kElements + piece % (Tile::kElements / 8) * 8;
      const std::byte* slot = slots + j * args.values.slot_stride;
      if (aligned) {
        load_eight(dtype, slot + least(element, args.head_dim - 8) * bytes, values[p]);
      } else {
        GRETA_UNROLL
        for (int k = 0; k < 8; ++k) values[p][k] = load_number(dtype, slot, least(element + k, args.head_dim - 1));
      }
    }
    GRETA_UNROLL
    for (int p = 0; p < Tile::kProbs; ++p) {
      const int at = thread_id() + p * Tile::kThreads;
      const int q = at / Tile::kKeys;
      probs[p] = table.probs[q][least(key + at % Tile::kKeys, table.keys[q] > 0 ? table.keys[q] - 1 : 0)];
    }
  }
  GRETA_DEVICE void store(float* staged_values, float* staged_probs) const {
    GRETA_UNROLL
    for (int p = 0; p < Tile::kPieces; ++p) {
      GRETA_UNROLL
      for (int k = 0; k < 8; ++k) staged_values[(thread_id() + p * Tile::kThreads) * 8 + k] = values[p][k];
    }
    GRETA_UNROLL
    for (int p = 0; p < Tile::kProbs; ++p) {
      const int at = thread_id() + p * Tile::kThreads;
      staged_probs[at % Tile::kKeys * Tile::kProbStride + at / Tile::kKeys] = probs[p];
    }
  }
};

/// One link of a chain.
template <KernelFault kFault>
GRETA_DEVICE float fuse_link(float p, float v, float sum) {
  const float next = fma(p, v, sum);
  return kFault == KernelFault::f16_accumulation ? through_half(next) : next;
}

/// Goes on with the thread's chains over the staged keys key... kAll: all enter all of them, else those of `mine`.
template <class Tile, KernelFault kFault, bool kAll>
GRETA_DEVICE void mix_keys(const float* values, const float* probs, int key, const Range (&mine)[Tile::kA],
                           float (&sum)[Tile::kEach]) {
  GRETA_UNROLL_BY(4)
  for (int j = 0; j < Tile::kKeys; ++j) {
    float v[Tile::kD], p[Tile::kA];
    GRETA_UNROLL
    for (int d = 0; d < Tile::kD; ++d) v[d] = values[j * Tile::kElements + Tile::staged_element(d)];
    GRETA_UNROLL
    for (int i = 0; i < Tile::kA; ++i) p[i] = probs[j * Tile::kProbStride + Tile::query(i)];
    GRETA_UNROLL
    for (int i = 0; i < Tile::kA; ++i) {
      // One comparison for both ends.
      const bool enters =
          kAll || static_cast<unsigned>(key + j - mine[i].begin) < static_cast<unsigned>(mine[i].end - mine[i].begin);
      GRETA_UNROLL
      for (int d = 0; d < Tile::kD; ++d) {
        float& chain = sum[i * Tile::kD + d];
        chain = enters ? fuse_link<kFault>(p[i], v[d], chain) : chain;
      }
    }
  }
}

/// Mixtures of queries [run.begin, run.end) of the table, all of one sequence, over their keys in `range`, into `out`. kSplits:
/// cut at multiples of kSplit.
template <class Tile, KernelFault kFault, bool kSplits>
GRETA_DEVICE void mix_run(const PvArgs& args, const MixTable<Tile::kQueries>& table, const Range& run, int kv_head,
                          const Range& range, bool aligned, float* staged, float (&out)[Tile::kEach]) {
  float* values = staged;
  float* probs = staged + Tile::kKeys * Tile::kElements;
  int begin = 0x7fffffff, end = 0;
  for (int q = run.begin; q < run.end; ++q) {
    begin = table.first[q] < begin ? table.first[q] : begin;
    end = table.keys[q] > end ? table.keys[q] : end;
  }
  begin = (begin > range.begin ? begin : range.begin) / Tile::kKeys * Tile::kKeys;
  end = end < range.end ? end : range.end;
  Range mine[Tile::kA];  // keys that enter
  float sum[Tile::kEach];
  GRETA_UNROLL
  for (int i = 0; i < Tile::kA; ++i) {
    const int q = Tile::query(i);
    const bool in_run = q >= run.begin && q < run.end;
    mine[i] = {in_run ? table.first[q] : 0, in_run ? table.keys[q] : 0};
    // -0 counts as no sum yet.
    const bool any = mine[i].begin < range.end && mine[i].end > range.begin;
    GRETA_UNROLL
    for (int d = 0; d < Tile::kD; ++d) {
      out[i * Tile::kD + d] = -0.0f;
      sum[i * Tile::kD + d] = kSplits || any ? 0.0f : -0.0f;
    }
  }
  const std::byte* slots = args.values.base + table.sequence[run.begin] * args.values.sequence_stride +
                           std::int64_t{kv_head} * args.head_dim * (args.values.dtype == DType::f32 ? 4 : 2);
  Coming<Tile> coming;
  coming.load(args, table, slots, begin, end, aligned);
  for (int key = begin; key < end; key += Tile::kKeys) {
    block_barrier();  // the tile before is done with
    coming.store(values, probs);
    block_barrier();
    if (key + Tile::kKeys < end) coming.load(args, table, slots, key + Tile::kKeys, end, aligned);
    bool all = true;
    GRETA_UNROLL
    for (int i = 0; i < Tile::kA; ++i) all = all && mine[i].begin <= key && key + Tile::kKeys <= mine[i].end;
    if (all) {
      mix_keys<Tile, kFault, true>(values, probs, key, mine, sum);
    } else {
      mix_keys<Tile, kFault, false>(values, probs, key, mine, sum);
    }
    if constexpr (kSplits) {
      const int next = key + Tile::kKeys;
      if (next % kSplit != 0 && next < end) continue;
      const int split = key / kSplit * kSplit;
      GRETA_UNROLL
      for (int i = 0; i < Tile::kA; ++i) {
        if (mine[i].begin >= split + kSplit || mine[i].end <= split) continue;
        GRETA_UNROLL
        for (int d = 0; d < Tile::kD; ++d) {
          out[i * Tile::kD + d] = out[i * Tile::kD + d] + sum[i * Tile::kD + d];
          sum[i * Tile::kD + d] = 0.0f;
        }
      }
    }
  }
  if constexpr (!kSplits) {
    GRETA_UNROLL
    for (int i = 0; i < Tile::kEach; ++i) out[i] = sum[i];
  }
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
