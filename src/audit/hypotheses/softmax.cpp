// Hypotheses about the softmax: a key too many, no maximum subtracted, padding, the merge of partial results.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "audit/attention_bound.h"
#include "audit/hypothesis.h"
#include "core/half.h"

namespace greta::audit {
namespace {

bool is_softmax(const Scene& scene) { return scene.right.op.op == OpClass::softmax; }
bool is_mixture(const Scene& scene) { return scene.right.op.op == OpClass::pv; }

/// One head's part of a row of scores, probabilities or mixtures.
template <class Row>
auto head_of(Row& row, int head, int n_heads) {
  const std::size_t size = row.size() / static_cast<std::size_t>(n_heads);
  return std::span(row).subspan(static_cast<std::size_t>(head) * size, size);
}

/// The part of the sum of exponentials that `extra` has beside `scores`.
double share(std::span<const double> scores, double extra) {
  double top = extra;
  for (const double score : scores) top = std::max(top, score);
  double sum = std::exp(extra - top);
  const double own = sum;
  for (const double score : scores) sum += std::exp(score - top);
  return own / sum;
}

/// What the key after the row's own takes from each head, and how far rounding of its score may move that.
struct Taken {
  std::vector<double> share, error;
};

/// `key` holds that key's K, [n_kv_heads * head_dim]; empty: its slot is empty, and the score 0.
Taken taken_by_next(const Scene& scene, std::span<const double> scores, std::span<const double> key) {
  const AttentionCase& a = scene.right.attention;
  const auto q = scene.rows.row(Stage::q_rope, scene.right.place.layer, scene.right.position);
  const auto dim = static_cast<std::size_t>(a.head_dim);
  const Arithmetic arithmetic = arithmetic_of(scene.rows.route(Stage::attn_scores, scene.right.place.layer), scene.right);
  Taken out;
  for (int h = 0; h < a.n_heads; ++h) {
    double score = 0, bound = 0;
    if (!key.empty()) {
      const auto slot = key.subspan(static_cast<std::size_t>(a.kv_head(h)) * dim, dim);
      const Estimate due = qk(
          head_of(q, h, a.n_heads), 1, [slot](std::int64_t) { return slot; }, {a.scale, a.softcap, 0}, arithmetic);
      score = due.value[0];
      bound = due.bound[0];
    }
    out.share.push_back(share(head_of(scores, h, a.n_heads), score));
    out.error.push_back(out.share.back() * bound);
  }
  return out;
}

/// Multiplies head h by 1 - taken.share[h].
void take_away(Estimate& estimate, const Taken& taken) {
  const auto n_heads = static_cast<int>(taken.share.size());
  for (int h = 0; h < n_heads; ++h) {
    const auto value = head_of(estimate.value, h, n_heads), bound = head_of(estimate.bound, h, n_heads);
    const double lost = taken.share[static_cast<std::size_t>(h)], error = taken.error[static_cast<std::size_t>(h)];
    for (std::size_t i = 0; i < value.size(); ++i) {
      bound[i] += std::fabs(value[i]) * error;
      value[i] *= 1 - lost;
    }
    if (!estimate.common.empty()) {
      const auto common = head_of(estimate.common, h, n_heads);
      for (std::size_t i = 0; i < value.size(); ++i) common[i] += std::fabs(value[i]) * error;
    }
  }
}

/// The probabilities of a row that sees a key too many: its own keys' are scaled by what the other leaves. That key is the next
/// token's where its slot is written, as in a prefill, or an empty slot.
void propose_next_in_softmax(const Scene& scene, const Emit& emit) {
  const int layer = scene.right.place.layer, position = scene.right.position;
  if (scene.rows.row(Stage::q_rope, layer, position).empty()) return;
  const auto with = [&](const char* what, std::span<const double> key) {
    emit({"mask-off-by-one",
          {{"key", what}},
          scene.right,
          [taken = taken_by_next(scene, scene.right.inputs[0], key)](Estimate& estimate) { take_away(estimate, taken); },
          false});
  };
  if (const auto key = scene.rows.row(Stage::k_cache, layer, position + 1); !key.empty()) with("next", key);
  with("empty slot", {});
}

/// The mixture of such a row, whose probabilities are right: the other key's share of its value is added.
void propose_next_in_mixture(const Scene& scene, const Emit& emit) {
  const int layer = scene.right.place.layer, position = scene.right.position;
  const auto scores = scene.rows.row(Stage::attn_scores, layer, position);
  const auto key = scene.rows.row(Stage::k_cache, layer, position + 1);
  const auto value = scene.rows.row(Stage::v_cache, layer, position + 1);
  if (scores.empty() || key.empty() || value.empty() || scene.rows.row(Stage::q_rope, layer, position).empty()) return;
  const AttentionCase& a = scene.right.attention;
  const auto dim = static_cast<std::size_t>(a.head_dim);
  const double unit = rounding_of(scene.right.stored).unit;
  const auto add = [&a, value, dim, unit, taken = taken_by_next(scene, scores, key)](Estimate& estimate) {
    for (int h = 0; h < a.n_heads; ++h)
      for (std::size_t d = 0; d < dim; ++d) {
        const std::size_t i = static_cast<std::size_t>(h) * dim + d;
        const double v = value[static_cast<std::size_t>(a.kv_head(h)) * dim + d];
        estimate.value[i] += taken.share[static_cast<std::size_t>(h)] * v;
        estimate.bound[i] += std::fabs(v) * taken.error[static_cast<std::size_t>(h)] + unit * std::fabs(estimate.value[i]);
      }
  };
  emit({"mask-off-by-one", {{"key", "next"}}, scene.right, add, false});
}

void propose_next(const Scene& scene, const Emit& emit) {
  if (is_softmax(scene)) propose_next_in_softmax(scene, emit);
  if (is_mixture(scene)) propose_next_in_mixture(scene, emit);
}

/// Partial softmaxes of no keys that count as keys of score 0 and value 0. How many there are is read off the head that loses
/// most of its mixture; it has to be a whole number, and to explain all heads.
void propose_merge(const Scene& scene, const Emit& emit) {
  if (!is_mixture(scene)) return;
  const int n_heads = scene.right.attention.n_heads;
  const auto scores = scene.rows.row(Stage::attn_scores, scene.right.place.layer, scene.right.position);
  if (scores.empty()) return;
  double largest = 0, count = 0;
  for (int h = 0; h < n_heads; ++h) {
    const auto due = head_of(scene.due.value, h, n_heads), actual = head_of(scene.actual, h, n_heads);
    double product = 0, square = 0, sum = 0;
    for (std::size_t i = 0; i < due.size(); ++i) {
      product += due[i] * actual[i];
      square += due[i] * due[i];
    }
    for (const double score : head_of(scores, h, n_heads)) sum += std::exp(score);
    const double lost = square > 0 ? 1 - product / square : 0;
    if (!(lost > largest) || lost >= 1) continue;
    largest = lost;
    count = lost / (1 - lost) * sum;
  }
  constexpr double kMostChunks = 1e6;
  const double empty = std::round(count);
  if (!(empty >= 1) || empty > kMostChunks) return;
  Taken taken;
  for (int h = 0; h < n_heads; ++h) {
    taken.share.push_back(share(head_of(scores, h, n_heads), std::log(empty)));
    taken.error.push_back(0);
  }
  emit({"merge-empty-chunk",
        {{"empty", fmt::format("{:.0f}", empty)}},
        scene.right,
        [taken = std::move(taken)](Estimate& estimate) { take_away(estimate, taken); },
        false});
}

/// exp(score) / sum exp(score), the exponentials in binary16 or F32: infinite ones give NaN, and 0 to the others.
void propose_no_maximum(const Scene& scene, const Emit& emit) {
  if (!is_softmax(scene)) return;
  for (const DType type : {DType::f16, DType::f32}) {
    std::vector<double> values = scene.right.inputs[0];
    for (int h = 0; h < scene.right.attention.n_heads; ++h) {
      const auto head = head_of(values, h, scene.right.attention.n_heads);
      double sum = 0;
      for (double& value : head) {
        const auto single = static_cast<float>(std::exp(value));
        value = static_cast<double>(type == DType::f16 ? f16_to_f32(f32_to_f16(single)) : single);
        sum += value;
      }
      for (double& value : head) value /= sum;
    }
    emit({"softmax-no-max",
          {{"type", std::string(name(type))}},
          scene.right,
          [values = std::move(values)](Estimate& estimate) { estimate.value = values; },
          false});
  }
}

/// All probabilities are NaN, of scores that are numbers: the maximum of a block of padding is -infinity, and less itself NaN.
void propose_padding(const Scene& scene, const Emit& emit) {
  if (!is_softmax(scene)) return;
  const auto is_nan = [](double value) { return std::isnan(value); };
  if (!std::all_of(scene.actual.begin(), scene.actual.end(), is_nan)) return;
  if (std::any_of(scene.due.value.begin(), scene.due.value.end(), is_nan)) return;
  emit({"nan-padding",
        {},
        scene.right,
        [](Estimate& estimate) {
          std::fill(estimate.value.begin(), estimate.value.end(), std::numeric_limits<double>::quiet_NaN());
        },
        false});
}

constexpr std::array kSoftmax{
    Hypothesis{"mask-off-by-one", "a row attends to the key after its own too", propose_next},
    Hypothesis{"merge-empty-chunk", "partial softmaxes of no keys count as keys of score 0", propose_merge},
    Hypothesis{"softmax-no-max", "exponentials are taken without subtracting the maximum", propose_no_maximum},
    Hypothesis{"nan-padding", "a block of padding keys makes a head's probabilities NaN", propose_padding}};

}  // namespace

std::span<const Hypothesis> softmax_hypotheses() { return kSoftmax; }

}  // namespace greta::audit
