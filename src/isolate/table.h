// The table's row of one prompt, and the collapse over all.
#pragma once

#include "isolate/align.h"
#include "isolate/outcome.h"

namespace greta::isolate {

/// Fills everything of `row` but first_mismatch_* and collapse, and the top tokens: row n-1 of arm A against decode0, over the
/// slices, at `layer` (nullopt: the lowest layer that both recorded there).
void measure_table(const PromptPair& pair, const RecordIndex& in_a, const RecordIndex& in_b, ExpMode exp,
                   std::optional<int> layer, PromptOutcome& prompt);

/// The id of the collapse column: `given`; else the decode0_top1 that most rows share (ties: the lowest id), at least two of
/// them, of which at least one has another prefill_last_top1; else 96965. Also fills every row's `collapse`.
Collapse judge_collapse(std::vector<PromptOutcome>& prompts, std::optional<std::int64_t> given);

}  // namespace greta::isolate
