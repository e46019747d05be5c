// The comparison that a gate holds to its limits: computed here, or read from a run directory.
#pragma once

#include <filesystem>
#include <string>

#include "cli/verbs.h"
#include "isolate/gate.h"

namespace greta::cli {

/// Runs what the config names as `isolate` would. `out` not empty: the run directory is written there. Throws Error.
isolate::GateRun compute_comparison(const isolate::GateConfig& config, const std::string& out);

/// A run directory of `isolate`: verdict and controls as it recorded them, figures from its captures; KL divergences where
/// --trace-full kept the logits. Throws Error: incomplete, altered, without a verdict.
isolate::GateRun recorded_comparison(const std::filesystem::path& directory);

}  // namespace greta::cli
