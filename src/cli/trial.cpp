#include "cli/trial.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

#include "cli/find_cause.h"
#include "cli/local_judge.h"
#include "core/error.h"
#include "isolate/judge.h"
#include "isolate/metrics.h"

namespace greta::cli {
namespace {

isolate::ExperimentSpec experiment_of(const Trial& trial) {
  isolate::ExperimentSpec spec = isolate::builtin_experiment();
  spec.prompts.clear();
  spec.span = trial.span;
  spec.shift = trial.shift;
  return spec;
}

double spread_of(const isolate::PromptPair& pair) {
  std::map<int, const StageRecord*> in_a;
  for (const StageRecord& record : pair.a.records)
    if (record.stage == Stage::logits && record.exposure == Exposure::exposed) in_a.emplace(record.position, &record);
  double largest = 0;
  for (const StageRecord& record : pair.b.records) {
    const auto met = record.stage == Stage::logits ? in_a.find(record.position) : in_a.end();
    if (met == in_a.end()) continue;
    const isolate::Difference d = isolate::difference(*met->second, record);
    if (d.bit_equal) continue;
    const bool finite = d.nan_b == 0 && d.inf_b == 0 && d.rel && std::isfinite(*d.rel);
    largest = std::max(largest, finite ? *d.rel : std::numeric_limits<double>::infinity());
  }
  return largest;
}

/// Arms that can be what is asked for; throws Error.
ArmSpec arm_of(const ArmOptions& options, const Model& model) {
  ArmSpec spec = options.resolve();
  check_kv_type(spec.plan.kv, model.config.head_dim);
  check_faults(spec, model);
  return spec;
}

bool any_idle(const std::vector<std::int64_t>& effects) {
  return std::any_of(effects.begin(), effects.end(), [](std::int64_t n) { return n == 0; });
}

}  // namespace

TrialResult run_trial(const Trial& trial, WeightHashes& weights) {
  TrialResult out;
  ArmSpec a, b;
  try {
    a = arm_of(trial.a, trial.model);
    b = arm_of(trial.b, trial.model);
  } catch (const Error& error) {
    out.refused = error.what();
    return out;
  }
  const isolate::ExperimentSpec experiment = experiment_of(trial);
  const RunContext context{trial.model, trial.model, a, b, experiment, weights, false};
  AlignedRun run(context, "prompt", trial.tokens);
  const std::vector<isolate::PromptPair> pairs{run.run()};
  out.idle = any_idle(run.effects_a()) || any_idle(run.effects_b());
  if (out.idle) return out;
  out.logits = spread_of(pairs[0]);
  isolate::RunInfo info;
  info.source = isolate::Source::isolate;
  info.a = trial.a.declared(a);
  info.b = trial.b.declared(b);
  const auto local = [&](const std::string&) -> std::optional<isolate::LocalPair> { return judge_locally(run, context, {}); };
  out.outcome = isolate::judge(pairs, experiment, info, {}, isolate::difference, local);
  const isolate::PromptOutcome& prompt = out.outcome.prompts[0];
  if (prompt.judgement.verdict() == isolate::Verdict::diverged && prompt.first)
    out.outcome.cause = find_cause({{prompt, pairs[0], run}}, context).cause;
  return out;
}

double logits_spread(const Trial& trial, WeightHashes& weights) {
  const ArmSpec a = arm_of(trial.a, trial.model), b = arm_of(trial.b, trial.model);
  const isolate::ExperimentSpec experiment = experiment_of(trial);
  const RunContext context{trial.model, trial.model, a, b, experiment, weights, false};
  return spread_of(AlignedRun(context, "prompt", trial.tokens).run());
}

}  // namespace greta::cli
