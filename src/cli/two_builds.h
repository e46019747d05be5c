// `binary=PATH`: an arm that another build of greta computes.
#pragma once

#include "cli/arm.h"
#include "cli/isolate_run.h"
#include "cli/verbs.h"

namespace greta::cli {

/// Whether an arm of these options names a build.
bool names_a_build(const IsolateOptions& options);

/// Runs each build's own `isolate` over the same prompts, with its arm's options, and compares the capture of arm A of the one
/// with that of arm B of the other, as `greta compare` does: bits first, then the thresholds, for the rows of another build are
/// not computed again. Writes no run directory of its own unless --out says where. Returns the exit code. Throws Error where a
/// binary does not run or writes no captures.
int isolate_two_builds(const IsolateOptions& options, const Program& program);

}  // namespace greta::cli
