// The one entry point of isolate, analyze and compare: captures in, Outcome out.
#pragma once

#include <functional>
#include <vector>

#include "isolate/outcome.h"

namespace greta::isolate {

/// Measures one pair of rows. Replaced only in tests (a comparator that always says equal must not pass).
using Comparator = std::function<Difference(const StageRecord&, const StageRecord&)>;

/// Aligns, compares and judges every pair, runs the controls and gives the verdict over all.
/// `run_control` empty: controls alter one record in memory instead, and the outcome says so. Nothing in `pairs` is changed.
/// Throws only what `run_control` throws; captures that cannot be compared are a verdict, never an error.
Outcome judge(const std::vector<PromptPair>& pairs, const ExperimentSpec& spec, const RunInfo& run,
              const ControlRunner& run_control = {}, const Comparator& compare = difference);

}  // namespace greta::isolate
