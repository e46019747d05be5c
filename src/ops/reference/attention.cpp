// Attention as three ops, so that every stage of it can be observed.
//
// qk: 16-lane dot product over head_dim, then one product with F32(scale); where there is a cap, F32(cap) * tanh(score / F32(cap)).
//   Keys before the window are -infinity and not computed.
// softmax: e = exp(s - max), divided by the 16-lane sum of e (key j in lane j % 16, a tail padded with zeros). A NaN score, an
// infinite
//   maximum or scores that are all -infinity give NaN for the whole head, as the formula does.
// pv: one chain of fused multiply-adds an element, over keys 0, 1, ... position. Keys before the window whose probability is 0 are
//   passed over.
// Keys and values of any storage are converted to F32 first: exactly (a Q8_0 element's code times its scale is one), but for
// F64, which rounds.
#include <algorithm>
#include <limits>
#include <span>

#include "ops/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/reference/attention.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which flips its guard.
#include "ops/cpu/lanes.h"
#include "ops/reference/attention.h"
#include "ops/reference/reference.h"

HWY_BEFORE_NAMESPACE();
namespace greta::HWY_NAMESPACE {

using reference::HeadSlots;
using reference::kTileQueries;
using reference::Query;

// Queries by keys of a register tile of scores, and queries by lanes of one of mixtures.
#if HWY_TARGET == HWY_AVX3
constexpr int kScoreQueries = 4;
constexpr int kScoreKeys = 4;
constexpr int kMixGroups = 4;
#else
constexpr int kScoreQueries = 2;
constexpr int kScoreKeys = 2;
constexpr int kMixGroups = 1;
#endif

/// Calls tile(first, std::integral_constant n) for [0, count) in tiles of kSize, then one of the rest.
template <int kSize, class F>
HWY_INLINE void for_tiles(int first, int count, const F& tile) {
  for (; first + kSize <= count; first += kSize) tile(first, std::integral_constant<int, kSize>());
  if constexpr (kSize > 1) {
    if (first < count) for_tiles<kSize - 1>(first, count, tile);
  }
}

/// Scores of keys j.. for kQueries queries.
template <DType kType, int kQueries, int kKeys>
HWY_INLINE void score_tile(const Query* queries, const HeadSlots& keys, std::int64_t j, float scale) {
  Lanes sum[kQueries * kKeys];
  const std::byte* key[kKeys];
  for (int n = 0; n < kQueries * kKeys; ++n) sum[n] = zero();
  for (int n = 0; n < kKeys; ++n) key[n] = keys.slots[j + n] + keys.offset;
  std::int64_t d = 0;
  for (; d + kLanes <= keys.head_dim; d += kLanes) {
    Lanes k[kKeys];
    for (int n = 0; n < kKeys; ++n) k[n] = load_row<kType>(key[n], d);
    for (int i = 0; i < kQueries; ++i) {
      const Lanes q = load(queries[i].in + d);
      for (int n = 0; n < kKeys; ++n) sum[i * kKeys + n] = fma(q, k[n], sum[i * kKeys + n]);
    }
  }
  if (const std::int64_t rest = keys.head_dim - d; rest > 0) {
    Lanes k[kKeys];
    for (int n = 0; n < kKeys; ++n) k[n] = load_row_tail<kType>(key[n], d, rest);
    for (int i = 0; i < kQueries; ++i) {
      const Lanes q = load_first(queries[i].in + d, rest);
      for (int n = 0; n < kKeys; ++n) sum[i * kKeys + n] = fma(q, k[n], sum[i * kKeys + n]);
    }
  }
  float dots[kQueries * kKeys];
  constexpr int kQuads = kQueries * kKeys / 4 * 4;
  for (int n = 0; n < kQuads; n += 4) reduce_add4(sum[n], sum[n + 1], sum[n + 2], sum[n + 3], dots + n);
  for (int n = kQuads; n < kQueries * kKeys; ++n) dots[n] = reduce_add(sum[n]);
  for (int i = 0; i < kQueries; ++i) {
    for (int n = 0; n < kKeys; ++n) queries[i].out[j + n] = dots[i * kKeys + n] * scale;
  }
}

/// Scores of keys [begin, end), which all kQueries queries see.
template <DType kType, int kQueries>
HWY_INLINE void score_keys(const Query* queries, const HeadSlots& keys, std::int64_t begin, std::int64_t end, float scale) {
  std::int64_t j = begin;
  for (; j + kScoreKeys <= end; j += kScoreKeys) score_tile<kType, kQueries, kScoreKeys>(queries, keys, j, scale);
  for (; j < end; ++j) score_tile<kType, kQueries, 1>(queries, keys, j, scale);
}

/// Slots [begin, end) that all of the queries see; where there are none, both are every query's end.
struct Shared {
  std::int64_t begin, end;
};
HWY_INLINE Shared shared_keys(const Query* queries, int count) {
  Shared shared{queries[0].first, queries[0].n};
  std::int64_t most = shared.end;
  for (int i = 1; i < count; ++i) {
    shared.begin = std::max(shared.begin, queries[i].first);
    shared.end = std::min(shared.end, queries[i].n);
    most = std::max(most, queries[i].n);
  }
  return shared.begin < shared.end ? shared : Shared{most, most};
}

template <DType kType>
void scores_of(const Query* queries, int count, const HeadSlots& keys, float scale) {
  for_tiles<kScoreQueries>(0, count, [&](int first, auto n) HWY_ATTR {
    const Shared shared = shared_keys(queries + first, n());
    score_keys<kType, n()>(queries + first, keys, shared.begin, shared.end, scale);
    for (int i = first; i < first + n(); ++i) {
      const Query& query = queries[i];
      score_keys<kType, 1>(&query, keys, query.first, std::min(shared.begin, query.n), scale);
      score_keys<kType, 1>(&query, keys, shared.end, query.n, scale);
    }
  });
}

/// Every query's out[first..n) = scale * in . key j. At most kTileQueries queries.
void scores_queries(const Query* queries, int count, const HeadSlots& keys, float scale) {
  switch (keys.dtype) {
    case DType::f64:
      return scores_of<DType::f64>(queries, count, keys, scale);
    case DType::f16:
      return scores_of<DType::f16>(queries, count, keys, scale);
    case DType::bf16:
      return scores_of<DType::bf16>(queries, count, keys, scale);
    case DType::q8_0:
      return scores_of<DType::q8_0>(queries, count, keys, scale);
    default:
      return scores_of<DType::f32>(queries, count, keys, scale);
  }
}

/// scores[0..n) = cap * tanh(score / cap), in place.
void cap_scores(float* scores, std::int64_t n, float cap) {
  const Lanes caps = set1(cap);
  std::int64_t j = 0;
  for (; j + kLanes <= n; j += kLanes) store(mul(caps, tanh(div(load(scores + j), caps))), scores + j);
  if (j < n) store_first(mul(caps, tanh(div(load_first(scores + j, n - j), caps))), scores + j, n - j);
}

void softmax_head(const float* scores, std::int64_t n, float* out) {
  const std::int64_t whole = n / kLanes * kLanes;
  Lanes largest = set1(-std::numeric_limits<float>::infinity());
  for (std::int64_t j = 0; j < whole; j += kLanes) largest = max(load(scores + j), largest);
  float top = reduce_max(largest);
  for (std::int64_t j = whole; j < n; ++j) top = scores[j] > top ? scores[j] : top;

  const Lanes tops = set1(top);
  Lanes sum = zero();
  for (std::int64_t j = 0; j < whole; j += kLanes) {
    const Lanes e = exp(sub(load(scores + j), tops));
    store(e, out + j);
    sum = add(sum, e);
  }
  if (whole < n) {
    store_first(exp(sub(load_first(scores + whole, n - whole), tops)), out + whole, n - whole);
    sum = add(sum, load_first(out + whole, n - whole));
  }
  const float total = reduce_add(sum);
  const Lanes totals = set1(total);
  for (std::int64_t j = 0; j < whole; j += kLanes) store(div(load(out + j), totals), out + j);
  for (std::int64_t j = whole; j < n; ++j) out[j] = out[j] / total;
}

/// Goes on with the mixtures of kQueries queries over slots [begin, end). Elements d..: kGroups groups of 16 lanes, or the last
/// `rest` < 16 elements where rest > 0.
template <DType kType, int kQueries, int kGroups>
HWY_INLINE void mix_slots(const Query* queries, const HeadSlots& values, std::int64_t begin, std::int64_t end, std::int64_t d,
                          std::int64_t rest, Lanes (&sum)[kQueries][kGroups]) {
  for (std::int64_t j = begin; j < end; ++j) {
    const std::byte* value = values.slots[j] + values.offset;
    Lanes v[kGroups];
    for (int g = 0; g < kGroups; ++g) {
      v[g] = rest > 0 ? load_row_tail<kType>(value, d, rest) : load_row<kType>(value, d + g * kLanes);
    }
    for (int i = 0; i < kQueries; ++i) {
      const Lanes p = set1(queries[i].in[j]);
      for (int g = 0; g < kGroups; ++g) sum[i][g] = fma(p, v[g], sum[i][g]);
    }
  }
}

/// The same for one query.
template <DType kType, int kGroups>
HWY_INLINE void mix_alone(const Query* query, const HeadSlots& values, std::int64_t begin, std::int64_t end, std::int64_t d,
                          std::int64_t rest, Lanes (&sum)[kGroups]) {
  if (begin >= end) return;
  Lanes own[1][kGroups];
  for (int g = 0; g < kGroups; ++g) own[0][g] = sum[g];
  mix_slots<kType, 1, kGroups>(query, values, begin, end, d, rest, own);
  for (int g = 0; g < kGroups; ++g) sum[g] = own[0][g];
}

template <DType kType, int kQueries, int kGroups>
HWY_INLINE void mix_tile(const Query* queries, const HeadSlots& values, std::int64_t d, std::int64_t rest) {
  Lanes sum[kQueries][kGroups];
  for (auto& lanes : sum) {
    for (Lanes& group : lanes) group = zero();
  }
  const Shared shared = shared_keys(queries, kQueries);
  for (int i = 0; i < kQueries; ++i) {
    mix_alone<kType>(queries + i, values, queries[i].first, std::min(shared.begin, queries[i].n), d, rest, sum[i]);
  }
  mix_slots<kType, kQueries, kGroups>(queries, values, shared.begin, shared.end, d, rest, sum);
  for (int i = 0; i < kQueries; ++i) {
    mix_alone<kType>(queries + i, values, shared.end, queries[i].n, d, rest, sum[i]);
    for (int g = 0; g < kGroups; ++g) {
      if (rest > 0) {
        store_first(sum[i][g], queries[i].out + d, rest);
      } else {
        store(sum[i][g], queries[i].out + d + g * kLanes);
      }
    }
  }
}

template <DType kType>
void mix_of(const Query* queries, int count, const HeadSlots& values) {
  for_tiles<kTileQueries>(0, count, [&](int first, auto n) HWY_ATTR {
    constexpr int kGroups = n() == 1 ? 4 : kMixGroups;
    const Query* tile = queries + first;
    std::int64_t d = 0;
    for (; d + kGroups * kLanes <= values.head_dim; d += kGroups * kLanes) mix_tile<kType, n(), kGroups>(tile, values, d, 0);
    for (; d + kLanes <= values.head_dim; d += kLanes) mix_tile<kType, n(), 1>(tile, values, d, 0);
    if (d < values.head_dim) mix_tile<kType, n(), 1>(tile, values, d, values.head_dim - d);
  });
}

/// Every query's out[0..head_dim) = sum over its slots first..n-1 of in[j] * value j. At most kTileQueries queries.
void mix_queries(const Query* queries, int count, const HeadSlots& values) {
  switch (values.dtype) {
    case DType::f64:
      return mix_of<DType::f64>(queries, count, values);
    case DType::f16:
      return mix_of<DType::f16>(queries, count, values);
    case DType::bf16:
      return mix_of<DType::bf16>(queries, count, values);
    case DType::q8_0:
      return mix_of<DType::q8_0>(queries, count, values);
    default:
      return mix_of<DType::f32>(queries, count, values);
  }
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <vector>

#include "ops/cpu/kv_slots.h"

namespace greta::reference {
namespace {

constexpr auto kScores = GRETA_PER_ISA(scores_queries);
constexpr auto kCap = GRETA_PER_ISA(cap_scores);
constexpr auto kSoftmax = GRETA_PER_ISA(softmax_head);
constexpr auto kMix = GRETA_PER_ISA(mix_queries);
constexpr std::int64_t kMinWork = 1 << 15;  // multiply-adds a chunk, about

std::int64_t most_keys(const OpSite& site) {
  std::int64_t keys = 1;
  for (const RowId& row : site.rows) keys = std::max<std::int64_t>(keys, row.position + 1);
  return keys;
}

/// Query heads first.. of one KV head, numbered row * group + head of the group; all of one sequence.
struct QueryTile {
  std::int64_t first;
  int count;
};

std::vector<QueryTile> cut_tiles(const OpSite& site, std::int64_t group) {
  std::vector<QueryTile> tiles;
  const auto seq = [&](std::int64_t query) { return site.rows[static_cast<std::size_t>(query / group)].seq; };
  const std::int64_t n = static_cast<std::int64_t>(site.rows.size()) * group;
  for (std::int64_t i = 0; i < n; ++i) {
    if (tiles.empty() || tiles.back().count == kTileQueries || seq(i) != seq(tiles.back().first)) tiles.push_back({i, 0});
    ++tiles.back().count;
  }
  return tiles;
}

/// Calls kernel(queries, count, slots) for every tile of every KV head, in parallel. operands(row, query head, position) gives
/// a Query.
template <class Operands, class Kernel>
void for_tiles(const CpuContext& context, const OpSite& site, const AttentionParams& params, KvView& kv, KvPart part,
               const Operands& operands, const Kernel& kernel) {
  const KvSlots slots(kv, part, site.layer, site.rows);
  const DType dtype = kv.dtype();
  const std::int64_t group = params.n_heads / params.n_kv_heads;
  const std::vector<QueryTile> tiles = cut_tiles(site, group);
  const auto n_tiles = static_cast<std::int64_t>(tiles.size());
  const std::int64_t grain = kMinWork / (most_keys(site) * params.head_dim * std::min<std::int64_t>(group, kTileQueries));
  context.pool.for_ranges(params.n_kv_heads * n_tiles, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t kv_head = i / n_tiles;
      const QueryTile& tile = tiles[static_cast<std::size_t>(i % n_tiles)];
      Query queries[kTileQueries];
      for (int q = 0; q < tile.count; ++q) {
        const std::int64_t r = (tile.first + q) / group;
        queries[q] = operands(r, kv_head * group + (tile.first + q) % group, site.rows[static_cast<std::size_t>(r)].position);
      }
      kernel(queries, tile.count,
             HeadSlots{slots.slots(tile.first / group), dtype, row_bytes(dtype, kv_head * params.head_dim), params.head_dim});
    }
  });
}

}  // namespace

void qk(const CpuContext& context, const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv,
        const TensorView& out) {
  for_tiles(
      context, site, params, kv, KvPart::k,
      [&](std::int64_t r, std::int64_t h, std::int32_t position) {
        const std::int64_t n = std::int64_t{position} + 1;
        return Query{q.row_as<const float>(r) + h * params.head_dim, out.row_as<float>(r) + h * n, params.first_key(position), n};
      },
      [&](const Query* queries, int count, const HeadSlots& keys) {
        kScores[context.isa](queries, count, keys, static_cast<float>(params.scale));
        for (const Query& query : std::span(queries, static_cast<std::size_t>(count))) {
          std::fill(query.out, query.out + query.first, -std::numeric_limits<float>::infinity());
          if (params.softcap <= 0) continue;
          kCap[context.isa](query.out + query.first, query.n - query.first, static_cast<float>(params.softcap));
        }
      });
}

void softmax(const CpuContext& context, const OpSite& site, const TensorView& scores, const AttentionParams& params,
             const TensorView& out) {
  const auto n_rows = static_cast<std::int64_t>(site.rows.size());
  context.pool.for_ranges(n_rows * params.n_heads, kMinWork / (most_keys(site) * 16),
                          [&](std::int64_t begin, std::int64_t end) {
                            for (std::int64_t i = begin; i < end; ++i) {
                              const std::int64_t r = i / params.n_heads;
                              const std::int64_t n = site.rows[static_cast<std::size_t>(r)].position + std::int64_t{1};
                              const std::int64_t first = i % params.n_heads * n;
                              kSoftmax[context.isa](scores.row_as<const float>(r) + first, n, out.row_as<float>(r) + first);
                            }
                          });
}

void pv(const CpuContext& context, const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv,
        const TensorView& out) {
  for_tiles(
      context, site, params, kv, KvPart::v,
      [&](std::int64_t r, std::int64_t h, std::int32_t position) {
        const std::int64_t n = std::int64_t{position} + 1;
        const float* in = probs.row_as<const float>(r) + h * n;
        const float* masked_end = in + params.first_key(position);
        const float* first = std::find_if(in, masked_end, [](float p) { return p != 0.0f; });
        return Query{in, out.row_as<float>(r) + h * params.head_dim, first - in, n};
      },
      [&](const Query* queries, int count, const HeadSlots& values) { kMix[context.isa](queries, count, values); });
}

}  // namespace greta::reference
#endif
