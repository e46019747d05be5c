// Attention in plain loops: where the elements of a head lie, and slots as double.
#pragma once

#include <cmath>
#include <cstddef>
#include <vector>

#include "ops/cpu/convert.h"
#include "ops/kv_view.h"
#include "ops/ops.h"

namespace greta {

/// Element d of query head h in a row [n_heads * head_dim].
inline std::size_t head_element(int h, const AttentionParams& p, int d) {
  return static_cast<std::size_t>(h) * static_cast<std::size_t>(p.head_dim) + static_cast<std::size_t>(d);
}
/// Element d of the KV head that query head h reads, in a slot [n_kv_heads * head_dim].
inline std::size_t kv_element(int h, const AttentionParams& p, int d) {
  return head_element(h / (p.n_heads / p.n_kv_heads), p, d);
}
/// A scaled score, soft-capped where the model does that.
inline double capped(double score, const AttentionParams& p) {
  return p.softcap > 0 ? p.softcap * std::tanh(score / p.softcap) : score;
}
inline std::vector<double> slot_as_double(KvView& kv, KvPart part, int layer, RowId token) {
  std::vector<double> values(static_cast<std::size_t>(kv.width()));
  widen_row(kv.dtype(), kv.read_slot(part, layer, token), kv.width(), values.data());
  return values;
}

}  // namespace greta
