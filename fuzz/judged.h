// What `analyze` does with captures that it has read: they come from outside, so the judgement must stand them as well.
#pragma once

#include <utility>
#include <vector>

#include "fuzz/fuzz.h"
#include "isolate/judge.h"
#include "report/json.h"
#include "report/tsv.h"
#include "trace/load.h"

namespace greta::fuzz {

inline void judge_pairs(std::vector<LoadedPair> loaded, std::int64_t unreadable_lines) {
  std::vector<isolate::PromptPair> pairs;
  for (LoadedPair& one : loaded) {
    isolate::PromptPair& pair = pairs.emplace_back();
    if (one.a) pair.a = std::move(*one.a);
    if (one.b) pair.b = std::move(*one.b);
    pair.a.prompt_id = pair.b.prompt_id = one.prompt_id;
    if (one.a && one.b && (pair.a.foreign || pair.b.foreign)) unify_layer_counts(pair.a, pair.b);
  }
  isolate::ExperimentSpec spec = isolate::builtin_experiment();
  spec.prompts.clear();
  isolate::RunInfo info;
  info.source = isolate::Source::analyze;
  info.unreadable_lines = unreadable_lines;
  const isolate::Outcome outcome = isolate::judge(pairs, spec, info);
  require(!report::tsv(outcome).empty() && !report::verdict_json(outcome).empty(), "a report");
}

}  // namespace greta::fuzz
