// Hypotheses about a KV slot: not written, written beside its place, or holding what another position's or layer's row gave.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "audit/hypothesis.h"
#include "audit/local_error.h"

namespace greta::audit {
namespace {

constexpr int kMostPositions = 512;  // that are searched

/// Slots of the guilty row's stage, and what belongs in them.
class Slots {
 public:
  explicit Slots(const Scene& scene) : scene_(scene), source_(scene.right.op.inputs[0].stage) {}

  /// The row case of what belongs in the slot of `position` in `layer`; nothing where its source was not kept.
  bool due(int layer, int position, RowCase& out) const {
    const auto row = scene_.rows.row(source_, layer, position);
    if (row.size() != scene_.right.inputs[0].size()) return false;
    out = scene_.right;
    out.inputs[0].assign(row.begin(), row.end());
    return true;
  }
  /// Whether what belongs in the slot of `position` (own layer) was found in that of `held`.
  bool holds(int held, int position) const {
    const auto actual = scene_.rows.row(scene_.right.place.stage, scene_.right.place.layer, held);
    RowCase row;
    if (actual.empty() || !due(scene_.right.place.layer, position, row)) return false;
    return !judge(estimate(row, arithmetic_of(route(), row)), actual).guilty();
  }
  /// Whether the guilty slot holds what this case gives.
  bool found(const RowCase& row) const { return !judge(estimate(row, arithmetic_of(route(), row)), scene_.actual).guilty(); }
  bool is_kept(int position) const {
    return !scene_.rows.row(scene_.right.place.stage, scene_.right.place.layer, position).empty();
  }

 private:
  std::string_view route() const { return scene_.rows.route(scene_.right.place.stage, scene_.right.place.layer); }

  const Scene& scene_;
  Stage source_;
};

/// A slot of zeros. If what belongs in it stands in another slot, whose own is not there, it was written beside its place.
void propose_unwritten(const Scene& scene, const Emit& emit) {
  if (scene.right.op.op != OpClass::kv_write) return;
  if (!std::all_of(scene.actual.begin(), scene.actual.end(), [](double value) { return value == 0; })) return;
  const Slots slots(scene);
  const auto& [stage, layer] = scene.right.place;
  RowCase altered = scene.right;
  std::fill(altered.inputs[0].begin(), altered.inputs[0].end(), 0.0);
  for (const int other : scene.rows.positions(stage, layer)) {
    if (other == scene.right.position || !slots.holds(other, scene.right.position) || slots.holds(other, other)) continue;
    emit({"kv-slot-shift", {{"delta", fmt::format("{:+}", other - scene.right.position)}}, std::move(altered), {}, false});
    return;
  }
  emit({"slot-unwritten", {}, std::move(altered), {}, false});
}

/// A slot that holds what belongs in another one: written beside its place if that one does not hold its own, else left from,
/// or copied from, there. Values of equal tokens are equal in layer 0, so that several may fit: one that was lost elsewhere
/// goes first.
void propose_other_row(const Scene& scene, const Emit& emit) {
  if (scene.right.op.op != OpClass::kv_write) return;
  const Slots slots(scene);
  const auto& [stage, own_layer] = scene.right.place;
  std::vector<Candidate> left;
  bool beside = false;
  for (int layer = 0; layer < scene.contract.model.n_layers; ++layer) {
    int tried = 0;
    for (const int other : scene.rows.positions(scene.right.op.inputs[0].stage, layer)) {
      RowCase altered;
      if ((layer == own_layer && other == scene.right.position) || !slots.due(layer, other, altered)) continue;
      if (++tried > kMostPositions) break;
      if (!slots.found(altered)) continue;
      if (layer == own_layer && slots.is_kept(other) && !slots.holds(other, other)) {
        beside = true;
        emit({"kv-slot-shift", {{"delta", fmt::format("{:+}", scene.right.position - other)}}, std::move(altered), {}, false});
      } else {
        left.push_back({"slot-stale",
                        {{"layer", std::to_string(layer)}, {"position", std::to_string(other)}},
                        std::move(altered),
                        {},
                        false});
      }
    }
  }
  for (Candidate& candidate : left)
    if (!beside) emit(std::move(candidate));
}

constexpr std::array kSlots{
    Hypothesis{"slot-unwritten", "the slot was not written: it holds what it held before, or its row stands in another slot",
               propose_unwritten},
    Hypothesis{"slot-stale", "the slot holds the row of another position or layer", propose_other_row}};

}  // namespace

std::span<const Hypothesis> slot_hypotheses() { return kSlots; }

}  // namespace greta::audit
