// The one entry point of isolate, analyze and compare: captures in, Outcome out.
#pragma once

#include <vector>

#include "isolate/compare.h"
#include "isolate/local_control.h"
#include "isolate/outcome.h"

namespace greta::isolate {

/// Aligns, compares and judges every pair, runs the controls and gives the verdict over all.
/// `local` judges arms that are not bit-equal op by op; without it they are judged by the experiment's thresholds.
/// Where `local` judged a prompt, its controls are `local_control`'s, if there is one.
/// `runner` empty: controls alter one record in memory instead, and the outcome says so. Nothing in `pairs` is changed.
/// Throws only what `runner` throws; captures that cannot be compared are a verdict, never an error.
Outcome judge(const std::vector<PromptPair>& pairs, const ExperimentSpec& spec, const RunInfo& run,
              const ControlRunner& runner = {}, const Comparator& comparator = difference, const LocalJudge& local = {},
              const LocalControlRunner& local_control = {});

}  // namespace greta::isolate
