// Hypotheses about which keys a row sees: the window, its own key, the mask.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>

#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

bool is_scores(const Scene& scene) { return scene.right.op.op == OpClass::qk; }

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
  for (const int delta : {-2, -1, 1, 2, 3})
    with(std::max<std::int64_t>(0, scene.right.attention.n_keys - (window + delta)), fmt::format("{:+}", delta));
  with(0, "none");
}

/// A row that does not see its own key: its score is -infinity.
void propose_length(const Scene& scene, const Emit& emit) {
  if (!is_scores(scene)) return;
  const auto n = static_cast<std::size_t>(scene.right.attention.n_keys);
  for (std::size_t h = 0; h < static_cast<std::size_t>(scene.right.attention.n_heads); ++h)
    if (!std::isinf(scene.actual[h * n + n - 1])) return;
  RowCase altered = scene.right;
  altered.attention.own_key = false;
  emit({"attention-length", {{"keys", std::to_string(n - 1)}}, std::move(altered), {}, false});
}

/// Which keys the scores show as masked, [n_keys]; nothing where heads do not agree.
std::optional<std::vector<bool>> masked_keys(const Scene& scene) {
  const auto n = static_cast<std::size_t>(scene.right.attention.n_keys);
  std::vector<bool> masked(n);
  for (std::size_t i = 0; i < scene.actual.size(); ++i) {
    const bool here = std::isinf(scene.actual[i]) && scene.actual[i] < 0;
    if (i >= n && masked[i % n] != here) return std::nullopt;
    masked[i % n] = here;
  }
  return masked;
}

/// A call of rows at positions first .. last, and a mask of it, [rows, last + 1], read with a stride that is too short.
struct ShortMask {
  std::int64_t first = 0, last = 0, delta = 1;

  bool whole(std::int64_t last_kept) const { return first == 0 && last >= last_kept - 1; }

  /// Whether key j of the row at `position` counts as masked: its place in the mask is one of an earlier row's.
  bool masks(std::int64_t position, std::int64_t j) const {
    const std::int64_t keys = last + 1, flat = (position - first) * std::max<std::int64_t>(0, keys - delta) + j;
    return flat % keys > first + flat / keys;
  }
};

/// Calls that may have computed the row: a prefill of everything that was kept, or of all but a last decoded row; or one in
/// chunks of a power of two. Others would explain too much: some call and stride give almost any mask.
std::vector<ShortMask> likely_calls(std::int64_t position, std::int64_t last_kept) {
  std::vector<ShortMask> out;
  for (const std::int64_t last : {last_kept, last_kept - 1}) {
    if (last < position) continue;
    out.push_back({0, last, 1});
    for (std::int64_t chunk = 4; chunk <= last; chunk *= 2)
      out.push_back({position / chunk * chunk, std::min(position / chunk * chunk + chunk - 1, last), 1});
  }
  return out;
}

/// The mask whose misreading shows these masked keys.
std::optional<ShortMask> fitting_mask(const std::vector<bool>& masked, std::int64_t first_key, std::int64_t position,
                                      std::int64_t last_kept) {
  constexpr std::int64_t kMostDelta = 4;
  const auto n = static_cast<std::int64_t>(masked.size());
  for (ShortMask mask : likely_calls(position, last_kept))
    for (mask.delta = 1; mask.delta <= (mask.whole(last_kept) ? kMostDelta : 1); ++mask.delta) {
      std::int64_t j = 0;
      while (j < n && masked[static_cast<std::size_t>(j)] == (j < first_key || mask.masks(position, j))) ++j;
      if (j == n) return mask;
    }
  return std::nullopt;
}

/// In addition to what the window hides.
void propose_stride(const Scene& scene, const Emit& emit) {
  if (!is_scores(scene) || scene.right.position == 0) return;
  const std::int64_t first_key = scene.right.attention.first_key;
  const auto masked = masked_keys(scene);
  const std::vector<int> kept = scene.rows.positions(scene.right.place.stage, scene.right.place.layer);
  if (!masked || kept.empty()) return;
  if (std::count(masked->begin(), masked->end(), true) <= first_key) return;
  const auto mask = fitting_mask(*masked, first_key, scene.right.position, kept.back());
  if (!mask) return;
  emit({"mask-stride",
        {{"delta", std::to_string(mask->delta)}, {"call", fmt::format("{}..{}", mask->first, mask->last)}},
        scene.right,
        [masked = *masked](Estimate& estimate) {
          for (std::size_t i = 0; i < estimate.value.size(); ++i)
            if (masked[i % masked.size()]) put_exact(estimate, i, -std::numeric_limits<double>::infinity());
        },
        false});
}

constexpr std::array kMasks{
    Hypothesis{"window", "the sliding window is wider or narrower, or is not there", propose_window},
    Hypothesis{"attention-length", "a row does not attend to its own key", propose_length},
    Hypothesis{"mask-stride", "the mask is read with a stride too short: part of it is an earlier row's", propose_stride}};

}  // namespace

std::span<const Hypothesis> mask_hypotheses() { return kMasks; }

}  // namespace greta::audit
