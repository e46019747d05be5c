// Attention as three ops, so that every stage of it can be observed.
//
// qk: 16-lane dot product over head_dim, then one product with F32(scale).
// softmax: e = exp(s - max), divided by the 16-lane sum of e (key j in lane j % 16, a tail padded with zeros). A NaN score, an
// infinite
//   maximum or scores that are all -infinity give NaN for the whole head, as the formula does.
// pv: one chain of fused multiply-adds an element, over keys 0, 1, ... position.
// Keys and values of any storage are converted to F32 first: exactly, but for F64, which rounds.
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

template <DType kType, int kKeys>
HWY_INLINE void score_keys(const float* q, const HeadSlots& keys, std::int64_t j, float scale, float* out) {
  const std::byte* key[kKeys];
  Lanes sum[kKeys];
  for (int n = 0; n < kKeys; ++n) {
    key[n] = keys.slots[j + n] + keys.offset;
    sum[n] = zero();
  }
  std::int64_t d = 0;
  for (; d + kLanes <= keys.head_dim; d += kLanes) {
    const Lanes query = load(q + d);
    for (int n = 0; n < kKeys; ++n) sum[n] = fma(query, load_row<kType>(key[n], d), sum[n]);
  }
  if (const std::int64_t rest = keys.head_dim - d; rest > 0) {
    const Lanes query = load_first(q + d, rest);
    for (int n = 0; n < kKeys; ++n) sum[n] = fma(query, load_row_tail<kType>(key[n], d, rest), sum[n]);
  }
  for (int n = 0; n < kKeys; ++n) out[n] = reduce_add(sum[n]) * scale;
}

template <DType kType>
void scores_of(const float* q, const HeadSlots& keys, float scale, float* out) {
  std::int64_t j = 0;
  for (; j + 4 <= keys.n; j += 4) score_keys<kType, 4>(q, keys, j, scale, out + j);
  for (; j < keys.n; ++j) score_keys<kType, 1>(q, keys, j, scale, out + j);
}

/// out[0..n) = scale * q . key j.
void scores_head(const float* q, const HeadSlots& keys, float scale, float* out) {
  switch (keys.dtype) {
    case DType::f64:
      return scores_of<DType::f64>(q, keys, scale, out);
    case DType::f16:
      return scores_of<DType::f16>(q, keys, scale, out);
    default:
      return scores_of<DType::f32>(q, keys, scale, out);
  }
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

/// Elements d.. of the head: kParts groups of 16 lanes, or the last `rest` < 16 elements where rest > 0.
template <DType kType, int kGroups>
HWY_INLINE void mix_lanes(const float* probs, const HeadSlots& values, std::int64_t d, std::int64_t rest, float* out) {
  Lanes sum[kGroups];
  for (int g = 0; g < kGroups; ++g) sum[g] = zero();
  for (std::int64_t j = 0; j < values.n; ++j) {
    const std::byte* value = values.slots[j] + values.offset;
    const Lanes p = set1(probs[j]);
    for (int g = 0; g < kGroups; ++g) {
      const Lanes v = rest > 0 ? load_row_tail<kType>(value, d, rest) : load_row<kType>(value, d + g * kLanes);
      sum[g] = fma(p, v, sum[g]);
    }
  }
  for (int g = 0; g < kGroups; ++g) {
    if (rest > 0) {
      store_first(sum[g], out + d, rest);
    } else {
      store(sum[g], out + d + g * kLanes);
    }
  }
}

template <DType kType>
void mix_of(const float* probs, const HeadSlots& values, float* out) {
  std::int64_t d = 0;
  for (; d + 4 * kLanes <= values.head_dim; d += 4 * kLanes) mix_lanes<kType, 4>(probs, values, d, 0, out);
  for (; d + kLanes <= values.head_dim; d += kLanes) mix_lanes<kType, 1>(probs, values, d, 0, out);
  if (d < values.head_dim) mix_lanes<kType, 1>(probs, values, d, values.head_dim - d, out);
}

/// out[0..head_dim) = sum over j of probs[j] * value j.
void mix_head(const float* probs, const HeadSlots& values, float* out) {
  switch (values.dtype) {
    case DType::f64:
      return mix_of<DType::f64>(probs, values, out);
    case DType::f16:
      return mix_of<DType::f16>(probs, values, out);
    default:
      return mix_of<DType::f32>(probs, values, out);
  }
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include "ops/cpu/kv_slots.h"

namespace greta::reference {
namespace {

constexpr auto kScores = GRETA_PER_ISA(scores_head);
constexpr auto kSoftmax = GRETA_PER_ISA(softmax_head);
constexpr auto kMix = GRETA_PER_ISA(mix_head);
constexpr std::int64_t kMinWork = 1 << 15;  // multiply-adds a chunk, about

/// Calls head(row, query head, keys of the row) for every pair, in parallel. `work`: multiply-adds for one key of one head.
template <class Head>
void for_heads(const CpuContext& context, const OpSite& site, int n_heads, std::int64_t work, const Head& head) {
  const auto n_rows = static_cast<std::int64_t>(site.rows.size());
  std::int64_t keys = 1;
  for (const RowId& row : site.rows) keys = std::max<std::int64_t>(keys, row.position + 1);
  context.pool.for_ranges(n_rows * n_heads, kMinWork / (keys * work), [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t r = i / n_heads;
      head(r, i % n_heads, site.rows[static_cast<std::size_t>(r)].position + std::int64_t{1});
    }
  });
}

HeadSlots head_slots(const KvSlots& slots, DType dtype, const AttentionParams& params, std::int64_t r, std::int64_t h,
                     std::int64_t n) {
  const std::int64_t kv_head = h / (params.n_heads / params.n_kv_heads);
  return {slots.slots(r), dtype, row_bytes(dtype, kv_head * params.head_dim), params.head_dim, n};
}

}  // namespace

void qk(const CpuContext& context, const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv,
        const TensorView& out) {
  const KvSlots slots(kv, KvPart::k, site.layer, site.rows);
  const DType dtype = kv.dtype();
  const auto scores = kScores[context.isa];
  for_heads(context, site, params.n_heads, params.head_dim, [&](std::int64_t r, std::int64_t h, std::int64_t n) {
    scores(q.row_as<const float>(r) + h * params.head_dim, head_slots(slots, dtype, params, r, h, n),
           static_cast<float>(params.scale), out.row_as<float>(r) + h * n);
  });
}

void softmax(const CpuContext& context, const OpSite& site, const TensorView& scores, const AttentionParams& params,
             const TensorView& out) {
  const auto head = kSoftmax[context.isa];
  for_heads(context, site, params.n_heads, 16, [&](std::int64_t r, std::int64_t h, std::int64_t n) {
    head(scores.row_as<const float>(r) + h * n, n, out.row_as<float>(r) + h * n);
  });
}

void pv(const CpuContext& context, const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv,
        const TensorView& out) {
  const KvSlots slots(kv, KvPart::v, site.layer, site.rows);
  const DType dtype = kv.dtype();
  const auto mix = kMix[context.isa];
  for_heads(context, site, params.n_heads, params.head_dim, [&](std::int64_t r, std::int64_t h, std::int64_t n) {
    mix(probs.row_as<const float>(r) + h * n, head_slots(slots, dtype, params, r, h, n),
        out.row_as<float>(r) + h * params.head_dim);
  });
}

}  // namespace greta::reference
#endif
