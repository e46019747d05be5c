// Hypotheses about a KV slot: not written, or holding what another position's row gave.
#include <algorithm>
#include <array>

#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

void propose_unwritten(const Scene& scene, const Emit& emit) {
  if (scene.right.op.op != OpClass::kv_write) return;
  if (!std::all_of(scene.actual.begin(), scene.actual.end(), [](double value) { return value == 0; })) return;
  RowCase altered = scene.right;
  std::fill(altered.inputs[0].begin(), altered.inputs[0].end(), 0.0);
  emit({"slot-unwritten", {}, std::move(altered), {}, false});
}

constexpr std::array kSlots{
    Hypothesis{"slot-unwritten", "the slot was not written: it holds what it held before", propose_unwritten}};

}  // namespace

std::span<const Hypothesis> slot_hypotheses() { return kSlots; }

}  // namespace greta::audit
