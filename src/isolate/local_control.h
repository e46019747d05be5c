// Controls where local error judges: an error of 4 times an element's own bound, which the judge of ops has to find in its row.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "isolate/controls.h"
#include "isolate/local.h"

namespace greta::isolate {

/// A control as it was planted, and what was found of its row and of those that read it.
struct LocalControl {
  ControlSpec spec;                  // `delta`: 4 times the bound of the element; `ulps` 1 where that is 0 (hand-overs, slots)
  std::vector<LocalFinding> guilty;  // by step, layer, stage, position
};

/// Runs arm B's decode step at spec.position again as a ControlRunner does, with the element perturbed, and judges the row of
/// `spec` and every row at that position whose op reads it. Nothing where the element has no finite bound.
using LocalControlRunner = std::function<std::optional<LocalControl>(const ControlSpec&)>;

}  // namespace greta::isolate
