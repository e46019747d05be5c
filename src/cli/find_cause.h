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

/// Searches at the first mismatch of each prompt. Named: in all of them one hypothesis, the same one, gives the wrong output
/// within its bound, and no other does. Confirmed: each guilty arm, run again with right values in its guilty rows, has none
/// left; otherwise the name is withdrawn. What else is minimal in the first prompt is explained in `others`.
FoundCause find_cause(std::vector<DivergedPrompt> prompts, const RunContext& context);

}  // namespace greta::cli
