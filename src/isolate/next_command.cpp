#include "isolate/next_command.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace greta::isolate {
namespace {

const Mismatch* headline(const Outcome& outcome) {
  for (const PromptOutcome& prompt : outcome.prompts)
    if (prompt.judgement.verdict() == Verdict::diverged && prompt.first) return &*prompt.first;
  return nullptr;
}

std::string compared_stages(const Outcome& outcome) {
  std::vector<std::string_view> names;
  for (const PromptOutcome& prompt : outcome.prompts) {
    if (prompt.compared_stages.empty()) continue;
    for (const Stage stage : prompt.compared_stages) names.push_back(name(stage));
    break;
  }
  return fmt::format("{}", fmt::join(names, ","));
}

/// The plan that judges rounding, of those that both arms' backends have: no GPU computes in float64.
std::string_view judging_plan(const Outcome& outcome) {
  const auto on_cpu = [](const ArmOutcome& arm) { return arm.backend.empty() || arm.backend == "cpu"; };
  return on_cpu(outcome.a) && on_cpu(outcome.b) ? "float64" : "reference";
}

std::string base_of(const Outcome& outcome) { return outcome.run.next_base.empty() ? "greta isolate" : outcome.run.next_base; }

/// The command with `options` in the judging plan; in its own where that is it, where it is fixed, or where the arms are not
/// ours to run.
std::string in_judging_plan(const Outcome& outcome, const std::string& options) {
  const std::string_view plan = judging_plan(outcome);
  if (outcome.run.source != Source::isolate || outcome.run.plan_fixed || outcome.b.plan == plan)
    return base_of(outcome) + options;
  const std::string& base = outcome.run.next_other_plan;
  return fmt::format("{}{} --plan {}", base.empty() ? base_of(outcome) : base, options, plan);
}

/// A divergence is looked at in its own layer; one that the judging plan shows too is no rounding.
std::string after_divergence(const Outcome& outcome) {
  const Mismatch* first = headline(outcome);
  const bool in_layer = first != nullptr && !once_per_token(first->stage);
  const std::string command = in_judging_plan(outcome, in_layer ? fmt::format(" --layers {}", first->layer) : "");
  return command == base_of(outcome) ? command + " --sample 1000000" : command;
}

/// `base` without a mode of its own.
std::string without_mode(std::string base) {
  for (const char* option : {" --exp ", " --exp="}) {
    const std::size_t at = base.find(option);
    if (at == std::string::npos) continue;
    const std::size_t value = at + std::string_view(option).size();
    base.erase(at, std::min(base.find(' ', value), base.size()) - at);
  }
  return base;
}

/// The audit of the arm's own model and backend.
std::string after_instability(const Outcome& outcome) {
  constexpr std::string_view kInspect = "greta models info ";
  const std::string& inspect = outcome.run.inspect_command;
  const ArmOutcome& arm = outcome.b.backend == "cpu" ? outcome.a : outcome.b;
  std::string command = "greta audit determinism";
  if (inspect.starts_with(kInspect)) command += " " + inspect.substr(kInspect.size());
  if (!arm.backend.empty()) command += fmt::format(" --backend {} --plan {}", arm.backend, arm.plan);
  return command;
}

}  // namespace

std::string next_command(const Outcome& outcome) {
  const std::string base = base_of(outcome);
  const bool ours = outcome.run.source == Source::isolate;
  switch (outcome.judgement.reason) {
    case Reason::bit_equal:
    case Reason::within_bounds:
      return ours ? base + " --fault b3_41" : "greta isolate --fault b3_41";
    case Reason::above_threshold:
    case Reason::beyond_bound:
    case Reason::nan_in_b:
      return after_divergence(outcome);
    case Reason::nondeterministic:
      return after_instability(outcome);
    case Reason::as_designed:
      return ours ? without_mode(base) + " --exp E1" : base;
    case Reason::below_threshold:
      return in_judging_plan(outcome, "");
    case Reason::misaligned:
    case Reason::missing_operands:
    case Reason::weights_differ:
      return base;
    case Reason::missing_stages:
      return base + " --stages " + compared_stages(outcome);
    case Reason::one_token_prompt:
      return outcome.run.next_builtin.empty() ? base : outcome.run.next_builtin;
    case Reason::fault_without_effect:
      return "greta faults";
    case Reason::nan_in_a:
    case Reason::nan_on_both_sides:
      return outcome.run.inspect_command.empty() ? "greta doctor" : outcome.run.inspect_command;
    case Reason::arm_not_as_declared:
    case Reason::arms_do_not_differ:
    case Reason::decode_read_no_history:
      return "greta routes";
    case Reason::unreadable_lines:
    case Reason::zero_common_keys:
    case Reason::all_zero:
    case Reason::control_not_found:
    case Reason::no_prompts:
      break;
  }
  return "greta doctor";
}

}  // namespace greta::isolate
