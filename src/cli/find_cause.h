// Names the cause of a divergence: the transform under which right operands give what the guilty op wrote (audit), and confirms
// it by running the arm again with right values.
#pragma once

#include <vector>

#include "cli/aligned_run.h"
#include "cli/scene.h"
#include "isolate/outcome.h"

namespace greta::cli {

struct FoundCause {
  isolate::Cause cause;
  std::vector<SearchedScene> scenes;  // in the order of the search
};

/// One prompt of a run that diverged.
struct DivergedPrompt {
  const isolate::PromptOutcome& outcome;
  const isolate::PromptPair& pair;
  AlignedRun& run;
};

/// Searches at the first mismatch of each prompt, or at the guilty row before it. The rows that a cause explains get right
/// values, and the arm runs again; what is then still guilty, in either arm, is searched in its turn (`others`, of the first
/// prompt). Named: in all prompts one hypothesis, the same one, gives the wrong output within its bound, and no other does.
/// Confirmed: in the end no row of either arm is guilty; otherwise names are withdrawn.
FoundCause find_cause(std::vector<DivergedPrompt> prompts, const RunContext& context);

}  // namespace greta::cli
