#include "isolate/gate.h"

#include <fmt/format.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <set>

#include "core/error.h"
#include "core/quote.h"

namespace greta::isolate {
namespace {

/// In the order of kFigures.
constexpr std::array<std::optional<double> PromptFigures::*, kFigures.size()> kMembers = {
    &PromptFigures::p99, &PromptFigures::max, &PromptFigures::top1_agreement, &PromptFigures::kl, &PromptFigures::kl_max};
constexpr std::array<std::string_view, 4> kResults = {"pass", "skipped", "cannot_tell", "fail"};

bool allowed(const GateConfig& config, Reason reason) {
  return std::find(config.allow.begin(), config.allow.end(), reason) != config.allow.end();
}

Check verdict_check(const GateConfig& config, const std::string& prompt, const Judgement& judgement) {
  Check check{prompt, "verdict", CheckResult::pass, {}, {}, {}, {}};
  const Verdict verdict = judgement.verdict();
  check.detail = fmt::format("{} ({}): {}", name(verdict), name(judgement.reason), judgement.detail);
  if (verdict == Verdict::agree) return check;
  if (allowed(config, judgement.reason)) {
    check.result = CheckResult::skipped;
    check.detail = fmt::format("{} is allowed: the figures decide; {}", name(judgement.reason), check.detail);
  } else {
    check.result = verdict == Verdict::diverged ? CheckResult::fail : CheckResult::cannot_tell;
  }
  return check;
}

/// A comparison that has not been seen to fail proves nothing, whatever its figures.
Check controls_check(const GateRun& run) {
  Check check{"",
              "controls",
              CheckResult::pass,
              static_cast<double>(run.controls_found),
              static_cast<double>(run.controls),
              {},
              fmt::format("{} of {} found", run.controls_found, run.controls)};
  if (run.controls == 0 || run.controls_found < run.controls) check.result = CheckResult::cannot_tell;
  if (run.controls == 0) check.detail = "no control was planted: nothing shows that a difference would have been found";
  return check;
}

Check limit_check(const Limit& limit, const PromptFigures& figures, const Baseline* baseline) {
  Check check{figures.id,
              fmt::format("{}{}", name(limit.figure), limit.of_baseline ? "_vs_baseline" : ""),
              CheckResult::cannot_tell,
              figure_of(figures, limit.figure),
              {},
              {},
              {}};
  if (baseline != nullptr)
    for (const PromptFigures& one : baseline->prompts)
      if (one.id == figures.id) check.baseline = figure_of(one, limit.figure);
  if (!limit.of_baseline) check.limit = limit.value;
  if (limit.of_baseline && baseline == nullptr) {
    check.result = CheckResult::skipped;
    check.detail = "relative to the baseline that is to be written";
    return check;
  }
  if (limit.of_baseline && check.baseline) check.limit = limit.value * *check.baseline;
  if (!check.value) {
    check.detail = "the figure was not measured";
    if ((limit.figure == Figure::kl || limit.figure == Figure::kl_max) && figures.positions > 0)
      check.detail = "the run kept no whole logits; run isolate with --trace-full";
  } else if (std::isnan(*check.value)) {
    check.detail = "the figure is NaN: a row or logit of an arm is not finite, or nothing of a row was kept";
  } else if (!check.limit) {
    check.detail = fmt::format("the baseline has no {} of this prompt; write it again", name(limit.figure));
  } else {
    const bool good = is_least(limit.figure) ? *check.value >= *check.limit : *check.value <= *check.limit;
    check.result = good ? CheckResult::pass : CheckResult::fail;
    if (!good)
      check.detail =
          fmt::format("{:.6g} is {} than {:.6g}", *check.value, is_least(limit.figure) ? "less" : "more", *check.limit);
  }
  if ((limit.figure == Figure::p99 || limit.figure == Figure::max) && figures.lower_bound > 0) {
    if (!check.detail.empty()) check.detail += "; ";
    check.detail += fmt::format("of {} of {} rows only a lower bound is known", figures.lower_bound, figures.rows);
  }
  return check;
}

std::string listed(const std::set<std::int32_t>& numbers) {
  std::string out;
  for (const std::int32_t number : numbers) out += fmt::format("{}{}", out.empty() ? "" : ",", number);
  return out;
}

/// A list of any length as "<length> (<XXH3-64>)".
std::string digest(const std::vector<std::int32_t>& numbers) {
  return fmt::format("{} ({:016x})", numbers.size(), XXH3_64bits(numbers.data(), numbers.size() * sizeof(std::int32_t)));
}

std::string arm_text(const Capture& arm) {
  std::string out = fmt::format("{} {}", arm.backend, arm.plan);
  for (const auto& [op, route] : arm.routes) out += fmt::format(" {}={}", op, route);
  for (const StageRecord& record : arm.records)
    if (record.stage == Stage::k_cache && record.dtype) return out + fmt::format(" kv={}", name(*record.dtype));
  return out;
}

void refuse_another(const Baseline& baseline, const GateRun& run, const GateConfig& config) {
  const auto refuse = [&](std::string_view what, std::string_view now, std::string_view then) {
    fail("{}: a baseline of another comparison: {} is {}, the baseline's {}; write it again with --write-baseline",
         config.baseline.string(), what, quote(now, 200), quote(then, 200));
  };
  if (baseline.gate != config.id) refuse("gate", config.id, baseline.gate);
  if (baseline.model_hash != run.model_hash) refuse("the model's hash", run.model_hash, baseline.model_hash);
  for (std::size_t i = 0; i < std::max(run.identity.size(), baseline.identity.size()); ++i) {
    const auto none = std::pair<std::string, std::string>("", "nothing");
    const auto& now = i < run.identity.size() ? run.identity[i] : none;
    const auto& then = i < baseline.identity.size() ? baseline.identity[i] : none;
    if (now.first != then.first && i < run.identity.size() && i < baseline.identity.size())
      refuse("what was compared", now.first, then.first);
    if (now != then) refuse(now.first.empty() ? then.first : now.first, now.second, then.second);
  }
}

}  // namespace

std::string_view name(CheckResult result) { return kResults[static_cast<std::size_t>(result)]; }

CheckResult GateOutcome::result() const {
  CheckResult worst = CheckResult::pass;
  for (const Check& check : checks) worst = std::max(worst, check.result);
  return worst == CheckResult::skipped ? CheckResult::pass : worst;
}

int GateOutcome::exit_code() const {
  if (result() == CheckResult::pass) return 0;
  return result() == CheckResult::fail ? 1 : 2;
}

std::optional<double>& figure_of(PromptFigures& figures, Figure figure) {
  return figures.*kMembers[static_cast<std::size_t>(figure)];
}
const std::optional<double>& figure_of(const PromptFigures& figures, Figure figure) {
  return figures.*kMembers[static_cast<std::size_t>(figure)];
}

Identity identity_of(const std::vector<PromptPair>& pairs, const std::string& experiment) {
  Identity out = {{"experiment", experiment}};
  std::set<std::int32_t> layers;
  std::set<Stage> stages;
  for (const PromptPair& pair : pairs)
    for (const StageRecord& record : pair.a.records) {
      stages.insert(record.stage);
      if (!once_per_token(record.stage)) layers.insert(record.layer);
    }
  std::string stage_names;
  for (const Stage stage : stages) stage_names += fmt::format("{}{}", stage_names.empty() ? "" : ",", name(stage));
  out.emplace_back("layers", listed(layers));
  out.emplace_back("stages", stage_names);
  if (!pairs.empty()) {
    out.emplace_back("arm_a", arm_text(pairs.front().a));
    out.emplace_back("arm_b", arm_text(pairs.front().b));
  }
  Identity prompts;
  for (const PromptPair& pair : pairs) {
    const Capture& a = pair.a;
    // Tokens of the prompt alone: those after it are arm A's own, and what it gives is measured, not asked.
    const std::size_t n = std::min(static_cast<std::size_t>(std::max(a.n_prompt, 0)), a.tokens.size());
    const std::vector<std::int32_t> prompt(a.tokens.begin(), a.tokens.begin() + static_cast<std::ptrdiff_t>(n));
    prompts.emplace_back("prompt " + a.prompt_id, fmt::format("{}, tokens {}, calls {} and {}", a.exp, digest(prompt),
                                                              digest(a.schedule), digest(pair.b.schedule)));
  }
  std::sort(prompts.begin(), prompts.end());
  out.insert(out.end(), prompts.begin(), prompts.end());
  return out;
}

GateOutcome judge_gate(const GateConfig& config, GateRun run, std::optional<Baseline> baseline) {
  if (baseline) refuse_another(*baseline, run, config);
  GateOutcome out{config.id, std::move(run), std::move(baseline), {}};
  out.checks.push_back(controls_check(out.run));
  bool refused = out.checks.back().result == CheckResult::cannot_tell;
  for (const GatePrompt& prompt : out.run.prompts) {
    out.checks.push_back(verdict_check(config, prompt.id, prompt.judgement));
    refused = refused || out.checks.back().result > CheckResult::skipped;
    for (const Limit& limit : config.limits)
      out.checks.push_back(limit_check(limit, prompt.figures, out.baseline ? &*out.baseline : nullptr));
  }
  // What is wrong with the whole and with no prompt of it: lines that could not be read, no prompts.
  if (!refused) {
    Check over_all = verdict_check(config, "", out.run.judgement);
    if (over_all.result > CheckResult::skipped) out.checks.insert(out.checks.begin() + 1, over_all);
  }
  return out;
}

}  // namespace greta::isolate
