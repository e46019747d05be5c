// Whether an arm on a GPU gives the same bits again: with another timing, and with everything left on the device.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

#include "cli/aligned_run.h"
#include "isolate/outcome.h"

namespace greta::cli {

struct Repeats {
  std::optional<isolate::Unstable> unstable;       // where a row has other bits than in the pair
  std::vector<std::int64_t> effects_a, effects_b;  // elements that each fault of the arm changed in the repeats
};

/// Runs the GPU arms of a pair again: on path `resident`, where no fault keeps them from it, and `repeats` times on both paths
/// with the device's timing disturbed, until a row has another hash or is missing. Arms on the cpu, mode E0 and context shifts
/// are passed over.
Repeats repeat_check(const RunContext& context, const isolate::PromptPair& pair, int repeats);

}  // namespace greta::cli
