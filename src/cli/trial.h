// One comparison in process, with nothing written: what the scorecard makes by the thousand.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "cli/aligned_run.h"
#include "cli/arm_options.h"
#include "isolate/outcome.h"

namespace greta::cli {

struct Trial {
  const Model& model;
  std::vector<std::int32_t> tokens;
  ArmOptions a, b;
  int span = 3;
  std::optional<isolate::ContextShift> shift;
};

struct TrialResult {
  isolate::Outcome outcome;  // with its cause where it diverged; controls alter records in memory
  bool idle = false;         // a fault changed nothing: not judged
  std::string refused;       // why an arm cannot be what was asked for; empty: it can
  /// The largest relative RMS of logits that both arms have; infinite where one has NaN alone.
  double logits = 0;
};

/// As `isolate` judges, searches and confirms. Throws only for errors of the program.
TrialResult run_trial(const Trial& trial, WeightHashes& weights);
/// The last member alone: both arms run, nothing is judged.
double logits_spread(const Trial& trial, WeightHashes& weights);

}  // namespace greta::cli
