// Holds the arms of an aligned run to the rounding bounds of their ops (audit), from whole rows that a second run keeps.
#pragma once

#include "cli/aligned_run.h"
#include "isolate/local.h"

namespace greta::cli {

/// Runs both arms again, a group of layers at a time so that the rows kept stay within 1.2 GB, and judges every
/// row that they compute for the prompt. `on_layers(done, all)` is told of progress.
isolate::LocalPair judge_locally(AlignedRun& run, const RunContext& context,
                                 const std::function<void(int done, int all)>& on_layers);

}  // namespace greta::cli
