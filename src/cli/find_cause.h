// Names the cause of a divergence: the transform under which right operands give what the guilty op wrote (audit).
#pragma once

#include <memory>
#include <vector>

#include "cli/aligned_run.h"
#include "isolate/outcome.h"

namespace greta::cli {

/// Searches at the first mismatch of up to three diverged prompts. Named: in each of them one hypothesis, the same one, gives the
/// wrong output within its bound, and no other does. `runs` are those of the outcome's prompts, `ids` theirs, in one order.
isolate::Cause find_cause(const isolate::Outcome& outcome, const std::vector<std::unique_ptr<AlignedRun>>& runs,
                          const std::vector<std::string>& ids, const RunContext& context);

}  // namespace greta::cli
