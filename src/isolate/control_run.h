// Plans the controls and judges what they found.
#pragma once

#include <cstdint>
#include <vector>

#include "isolate/compare.h"
#include "isolate/controls.h"
#include "isolate/local_control.h"

namespace greta::isolate {

/// One prompt that controls may be planted in.
struct ControlGround {
  const PromptPair* pair = nullptr;
  const RecordIndex* in_a = nullptr;
  const RecordIndex* in_b = nullptr;
  const std::vector<RecordPair>* pairs = nullptr;  // as aligned
  bool arms_differ = false;                        // mismatches were found: controls meet arm B's own record
  bool bit_equality = false;                       // claimed: the perturbation is 1 ULP, else 4 times the threshold
  bool by_bounds = false;                          // local error judged the prompt
};

struct PlannedControl {
  std::size_t ground = 0;
  ControlSpec spec;
};

/// For every stage that was compared on some ground, one control at a seeded ground, layer and position (of a decode step where
/// there is one), on a seeded element that is neither zero nor subnormal. Sorted by ground, then stage.
std::vector<PlannedControl> plan_controls(const std::vector<ControlGround>& grounds, const Thresholds& thresholds,
                                          std::uint64_t seed);

/// Runs the control (or, without `run`, alters arm B's record in memory) and looks for the first mismatch of that step.
ControlResult run_control(const ControlSpec& spec, const ControlGround& ground, const Thresholds& thresholds,
                          const ControlRunner& run, const Comparator& comparator);

/// Where local error judges: the first guilty row has to be the control's own. nullopt: the element has no bound.
std::optional<ControlResult> run_local_control(const ControlSpec& spec, const LocalControlRunner& run);

/// A copy of `record` with the element moved as `spec` says: slice, sketch and hash, as a fingerprint of the altered row has
/// them.
StageRecord altered(const StageRecord& record, const ControlSpec& spec);

}  // namespace greta::isolate
