// Holds a judged comparison to the limits of a gate. Nothing passes that could not be told.
#pragma once

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "isolate/figures.h"
#include "isolate/gate_config.h"
#include "isolate/outcome.h"

namespace greta::isolate {

/// The comparison as judged: by a run of this process, or as a run directory holds it.
struct GatePrompt {
  std::string id;
  Judgement judgement;
  PromptFigures figures;
};

/// What was compared, said so that two can be told apart: ("arm_b", "cpu reference, …").
using Identity = std::vector<std::pair<std::string, std::string>>;
/// Experiment, mode, layers, stages, arms (backend, plan, routes), and of every prompt its tokens and schedules: what has to be
/// the same for two runs' figures to be comparable. Threads, hosts, builds and values are left out.
Identity identity_of(const std::vector<PromptPair>& pairs, const std::string& experiment);

struct GateRun {
  Judgement judgement;  // over all prompts
  std::string experiment, model_hash, build, date;
  int controls = 0, controls_found = 0;
  std::string command;  // that reproduces the comparison and looks for the cause
  Identity identity;
  std::vector<GatePrompt> prompts;
};

/// Figures of an earlier run of the same experiment on the same model.
struct Baseline {
  std::string gate, model_hash, build, date;
  Identity identity;
  std::vector<PromptFigures> prompts;
};

enum class CheckResult : std::uint8_t { pass, skipped, cannot_tell, fail };  // in ascending precedence
/// "pass", "skipped", "cannot_tell", "fail".
std::string_view name(CheckResult result);

/// One line of the gate's table.
struct Check {
  std::string prompt;  // empty: of the whole gate
  std::string what;    // "controls", "verdict", or a threshold's key
  CheckResult result = CheckResult::pass;
  std::optional<double> value, limit, baseline;
  std::string detail;  // one English line; empty where the numbers say all
};

struct GateOutcome {
  std::string id;
  GateRun run;
  std::optional<Baseline> baseline;
  std::vector<Check> checks;
  /// The worst of the checks; `skipped` counts as a pass.
  CheckResult result() const;
  /// 0 pass, 1 fail, 2 cannot tell.
  int exit_code() const;
};

std::optional<double>& figure_of(PromptFigures& figures, Figure figure);
const std::optional<double>& figure_of(const PromptFigures& figures, Figure figure);

/// Throws Error where `baseline` is of another model or experiment, saying what differs. Without a baseline, limits relative to
/// it are `skipped` (a baseline is about to be written); the caller refuses where one is due.
GateOutcome judge_gate(const GateConfig& config, GateRun run, std::optional<Baseline> baseline);

}  // namespace greta::isolate
