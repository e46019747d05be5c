// Hypotheses about attention: which keys, which head, which scale.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>

#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

bool is_scores(const Scene& scene) { return scene.right.op.op == OpClass::qk; }
bool is_mixture(const Scene& scene) { return scene.right.op.op == OpClass::pv; }

void propose_scale(const Scene& scene, const Emit& emit) {
  if (!is_scores(scene)) return;
  const double scale = scene.right.attention.scale;
  for (const auto& [what, value] : {std::pair{"missing", 1.0}, {"twice", scale * scale}, {"root", std::sqrt(scale)}}) {
    RowCase altered = scene.right;
    altered.attention.scale = value;
    emit({"softmax-scale", {{"scale", what}}, std::move(altered), {}, false});
  }
  if (scene.right.attention.softcap > 0) {
    RowCase altered = scene.right;
    altered.attention.softcap = 0;
    emit({"softcap-missing", {}, std::move(altered), {}, false});
  }
}

void propose_window(const Scene& scene, const Emit& emit) {
  if (!is_scores(scene)) return;
  const int window = scene.contract.model.layers[static_cast<std::size_t>(scene.right.place.layer)].window;
  const auto with = [&](std::int64_t first, std::string what) {
    if (first < 0 || first == scene.right.attention.first_key || first >= scene.right.attention.n_keys) return;
    RowCase altered = scene.right;
    altered.attention.first_key = first;
    emit({"window", {{"window", std::move(what)}}, std::move(altered), {}, false});
  };
  if (window <= 0) return;
  with(0, "none");
  for (const int delta : {-1, 1})
    with(std::max<std::int64_t>(0, scene.right.attention.n_keys - (window + delta)), fmt::format("{:+}", delta));
}

/// A row that does not see its own key: its score is -infinity.
void propose_length(const Scene& scene, const Emit& emit) {
  if (!is_scores(scene) || scene.right.attention.n_keys < 2) return;
  const auto n = static_cast<std::size_t>(scene.right.attention.n_keys);
  for (std::size_t h = 0; h < static_cast<std::size_t>(scene.right.attention.n_heads); ++h)
    if (!std::isinf(scene.actual[h * n + n - 1])) return;
  RowCase altered = scene.right;
  altered.attention.own_key = false;
  emit({"attention-length", {{"keys", std::to_string(n - 1)}}, std::move(altered), {}, false});
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

/// Slots of another layer. Those of a later one do not hold the row's own position yet: zeros.
void propose_slots(const Scene& scene, const Emit& emit) {
  if (!is_scores(scene) && !is_mixture(scene)) return;
  const Place own = scene.right.op.inputs[1];
  const auto dim = static_cast<std::size_t>(scene.right.attention.head_dim);
  const auto unwritten = std::make_shared<std::vector<double>>(dim);
  const Rows& rows = scene.rows;
  for (int layer = 0; layer < scene.contract.model.n_layers; ++layer) {
    if (layer == own.layer || !kept_to(rows, {own.stage, layer}, scene.right.position)) continue;
    RowCase altered = scene.right;
    altered.attention.slots = [&rows, own, layer, dim, unwritten, position = scene.right.position](std::int64_t j, int head) {
      if (layer > own.layer && j == position) return std::span<const double>(*unwritten);
      return rows.row(own.stage, layer, static_cast<int>(j)).subspan(static_cast<std::size_t>(head) * dim, dim);
    };
    emit({"kv-wrong-layer", {{"layer", std::to_string(layer)}}, std::move(altered), {}, false});
  }
}

constexpr std::array kAttention{
    Hypothesis{"softmax-scale", "scores are scaled or capped otherwise", propose_scale},
    Hypothesis{"window", "the sliding window is wider or narrower, or is not there", propose_window},
    Hypothesis{"attention-length", "a row does not attend to its own key", propose_length},
    Hypothesis{"gqa-head-map", "query heads read another KV head", propose_heads},
    Hypothesis{"kv-wrong-layer", "K or V of another layer is read", propose_slots}};

}  // namespace

std::span<const Hypothesis> attention_hypotheses() { return kAttention; }

}  // namespace greta::audit
