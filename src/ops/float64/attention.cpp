// Attention in double: dot products over head_dim, sums and mixtures over keys 0, 1, ... position, each in order.
#include <algorithm>
#include <limits>

#include "ops/cpu/kv_slots.h"
#include "ops/cpu/math64.h"
#include "ops/float64/float64.h"
#include "ops/float64/rows.h"

namespace greta::float64 {
namespace {

/// Calls head(row, query head, keys of the row) for every pair, in parallel.
template <class Head>
void for_heads(const CpuContext& context, const OpSite& site, int n_heads, const Head& head) {
  context.pool.for_ranges(static_cast<std::int64_t>(site.rows.size()) * n_heads, n_heads,
                          [&](std::int64_t begin, std::int64_t end) {
                            for (std::int64_t i = begin; i < end; ++i) {
                              const std::int64_t r = i / n_heads;
                              head(r, i % n_heads, site.rows[static_cast<std::size_t>(r)].position + std::int64_t{1});
                            }
                          });
}

/// Elements [first, first + n) of a row or slot, widened.
std::vector<double> slice(DType dtype, const std::byte* row, std::int64_t first, std::int64_t n) {
  std::vector<double> values(static_cast<std::size_t>(n));
  widen_row(dtype, row + row_bytes(dtype, first), n, values.data());
  return values;
}

std::int64_t kv_offset(const AttentionParams& params, std::int64_t head) {
  return head / (params.n_heads / params.n_kv_heads) * params.head_dim;
}

}  // namespace

void qk(const CpuContext& context, const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv,
        const TensorView& out) {
  const KvSlots slots(kv, KvPart::k, site.layer, site.rows);
  const DType dtype = kv.dtype();
  for_heads(context, site, params.n_heads, [&](std::int64_t r, std::int64_t h, std::int64_t n) {
    const std::vector<double> query = slice(q.dtype, q.row(r), h * params.head_dim, params.head_dim);
    std::vector<double> key(query.size());
    std::vector<double> scores(static_cast<std::size_t>(n), -std::numeric_limits<double>::infinity());
    for (auto j = static_cast<std::size_t>(params.first_key(static_cast<std::int32_t>(n - 1))); j < scores.size(); ++j) {
      widen_row(dtype, slots.slots(r)[j] + row_bytes(dtype, kv_offset(params, h)), params.head_dim, key.data());
      double dot = 0;
      for (std::size_t d = 0; d < query.size(); ++d) dot += query[d] * key[d];
      scores[j] = dot * params.scale;
      if (params.softcap > 0) scores[j] = params.softcap * tanh64(scores[j] / params.softcap);
    }
    store_row(scores, out, r, h * n);
  });
}

void softmax(const CpuContext& context, const OpSite& site, const TensorView& scores, const AttentionParams& params,
             const TensorView& out) {
  for_heads(context, site, params.n_heads, [&](std::int64_t r, std::int64_t h, std::int64_t n) {
    std::vector<double> row = slice(scores.dtype, scores.row(r), h * n, n);
    double top = -std::numeric_limits<double>::infinity();
    for (const double score : row) top = std::max(top, score);  // passes over NaN, which exp64 then hands on
    double sum = 0;
    for (double& score : row) {
      score = exp64(score - top);
      sum += score;
    }
    for (double& probability : row) probability /= sum;
    store_row(row, out, r, h * n);
  });
}

void pv(const CpuContext& context, const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv,
        const TensorView& out) {
  const KvSlots slots(kv, KvPart::v, site.layer, site.rows);
  const DType dtype = kv.dtype();
  for_heads(context, site, params.n_heads, [&](std::int64_t r, std::int64_t h, std::int64_t n) {
    const std::vector<double> weights = slice(probs.dtype, probs.row(r), h * n, n);
    std::vector<double> value(static_cast<std::size_t>(params.head_dim));
    std::vector<double> mixed(value.size());
    const auto first = static_cast<std::size_t>(params.first_key(static_cast<std::int32_t>(n - 1)));
    for (std::size_t j = 0; j < weights.size(); ++j) {
      if (j < first && weights[j] == 0) continue;  // masked: its value, whatever it is, has no part
      widen_row(dtype, slots.slots(r)[j] + row_bytes(dtype, kv_offset(params, h)), params.head_dim, value.data());
      for (std::size_t d = 0; d < mixed.size(); ++d) mixed[d] += weights[j] * value[d];
    }
    store_row(mixed, out, r, h * params.head_dim);
  });
}

}  // namespace greta::float64
