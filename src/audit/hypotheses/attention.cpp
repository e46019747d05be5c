// Hypotheses about attention: which slots, which head, which scale.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "audit/hypotheses/round_number.h"
#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

bool is_scores(const Scene& scene) { return scene.right.op.op == OpClass::qk; }
bool is_mixture(const Scene& scene) { return scene.right.op.op == OpClass::pv; }

/// The factor by which the scores before the cap are off, from those that the cap has not flattened: least squares.
double capped_factor(const Scene& scene) {
  const double cap = scene.right.attention.softcap;
  constexpr double kSteep = 0.9;  // of the cap
  double products = 0, squares = 0;
  for (std::size_t i = 0; i < scene.actual.size(); ++i) {
    const double due = scene.due.value[i] / cap, actual = scene.actual[i] / cap;
    if (!(std::fabs(due) < kSteep) || !(std::fabs(actual) < kSteep)) continue;
    products += std::atanh(due) * std::atanh(actual);
    squares += std::atanh(due) * std::atanh(due);
  }
  return squares > 0 ? products / squares : 1;
}

void propose_scale(const Scene& scene, const Emit& emit) {
  if (!is_scores(scene)) return;
  const double scale = scene.right.attention.scale;
  for (const auto& [what, value] : {std::pair{"missing", 1.0}, {"twice", scale * scale}, {"root", std::sqrt(scale)}}) {
    RowCase altered = scene.right;
    altered.attention.scale = value;
    emit({"softmax-scale", {{"scale", what}}, std::move(altered), {}, false});
  }
  if (scene.right.attention.softcap > 0) {
    const double fitted = capped_factor(scene);
    for (const int digits : {1, 2, 3}) {  // without a cap, any factor of the scale is one of the output
      if (!(fitted > 0)) break;
      RowCase altered = scene.right;
      altered.attention.scale = scale * rounded_to(fitted, digits);
      emit({"softmax-scale", {{"factor", fmt::format("{:.3g}", rounded_to(fitted, digits))}}, std::move(altered), {}, false});
    }
    RowCase altered = scene.right;
    altered.attention.softcap = 0;
    emit({"softcap-missing", {}, std::move(altered), {}, false});
  }
}

void propose_heads(const Scene& scene, const Emit& emit) {
  if (!is_scores(scene) && !is_mixture(scene)) return;
  const AttentionCase& right = scene.right.attention;
  const int kv = right.n_kv_heads, group = right.n_heads / right.n_kv_heads;
  if (kv < 2) return;
  const std::array<std::pair<const char*, std::function<int(int)>>, 3> maps{
      {{"modulo", [kv](int h) { return h % kv; }},
       {"next", [kv, group](int h) { return (h / group + 1) % kv; }},
       {"first", [](int) { return 0; }}}};
  for (const auto& [what, map] : maps) {
    RowCase altered = scene.right;
    altered.attention.kv_head = map;
    emit({"gqa-head-map", {{"map", what}}, std::move(altered), {}, false});
  }
}

bool kept_to(const Rows& rows, Place place, int position) {
  for (int p = 0; p <= position; ++p)
    if (rows.row(place.stage, place.layer, p).empty()) return false;
  return true;
}

/// The first key whose score is 0 in every head: K of it was read as zeros. n_keys: none.
std::int64_t first_zero_score(const Scene& scene) {
  const auto n = static_cast<std::size_t>(scene.right.attention.n_keys);
  for (std::size_t j = static_cast<std::size_t>(scene.right.attention.first_key); j < n; ++j) {
    bool zero = true;
    for (std::size_t h = 0; h < static_cast<std::size_t>(scene.right.attention.n_heads); ++h)
      zero = zero && scene.actual[h * n + j] == 0;
    if (zero) return static_cast<std::int64_t>(j);
  }
  return scene.right.attention.n_keys;
}

/// Slots of another layer. Those of a later one do not hold the rows of the running call yet: zeros, from its first position
/// on.
void propose_slots(const Scene& scene, const Emit& emit) {
  if (!is_scores(scene) && !is_mixture(scene)) return;
  const Place own = scene.right.op.inputs[1];
  const auto dim = static_cast<std::size_t>(scene.right.attention.head_dim);
  const auto unwritten = std::make_shared<std::vector<double>>(dim);
  const Rows& rows = scene.rows;
  const std::int64_t first = is_scores(scene) ? first_zero_score(scene) : scene.right.position;
  for (int layer = 0; layer < scene.contract.model.n_layers; ++layer) {
    if (layer == own.layer || (layer > own.layer && first == 0) || !kept_to(rows, {own.stage, layer}, scene.right.position))
      continue;
    RowCase altered = scene.right;
    altered.attention.slots = [&rows, own, layer, dim, unwritten, first](std::int64_t j, int head) {
      if (layer > own.layer && j >= first) return std::span<const double>(*unwritten);
      return rows.row(own.stage, layer, static_cast<int>(j)).subspan(static_cast<std::size_t>(head) * dim, dim);
    };
    emit({"kv-wrong-layer", {{"layer", std::to_string(layer)}}, std::move(altered), {}, false});
  }
  // A later layer in the first call of a prompt: nothing says which, or whether it is a layer at all.
  RowCase altered = scene.right;
  altered.attention.slots = [unwritten](std::int64_t, int) { return std::span<const double>(*unwritten); };
  emit({"kv-unwritten", {}, std::move(altered), {}, false});
}

constexpr std::array kAttention{
    Hypothesis{"softmax-scale", "scores are scaled or capped otherwise", propose_scale},
    Hypothesis{"gqa-head-map", "query heads read another KV head", propose_heads},
    Hypothesis{"kv-wrong-layer", "K or V of another layer is read, or slots that nothing was written to", propose_slots}};

}  // namespace

std::span<const Hypothesis> attention_hypotheses() { return kAttention; }

}  // namespace greta::audit
