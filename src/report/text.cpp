#include "report/text.h"

#include <fmt/format.h>

#include <algorithm>

#include "report/words.h"

namespace greta::report {
namespace {

using isolate::Outcome;
using isolate::PromptOutcome;

std::string without_backquotes(std::string text) {
  std::erase(text, '`');
  return text;
}

std::string first_of(const PromptOutcome& prompt) {
  if (!prompt.first) return prompt.table.first_mismatch_stage;
  return place(prompt.first->stage, prompt.first->layer, prompt.first->position, Language::english);
}

std::string token_of(const std::optional<int>& token) { return token ? fmt::format("{}", *token) : "-"; }

std::string arm_line(char letter, const isolate::ArmOutcome& arm) {
  if (arm.foreign && arm.backend.empty() && arm.plan.empty())
    return fmt::format("arm {}       not recorded by greta\n", letter);
  std::string out = fmt::format("arm {}       {} {}", letter, arm.backend, arm.plan);
  if (arm.threads > 0) out += fmt::format(", {} thread{}", arm.threads, arm.threads == 1 ? "" : "s");
  if (!arm.build.empty()) out += fmt::format(", build {}", arm.build);
  if (!arm.schedules.empty() && !arm.schedules.front().second.empty())
    out += fmt::format(", rows per call {} ({})", schedule(arm.schedules.front().second), arm.schedules.front().first);
  if (arm.fault_planted) out += ", a fault is planted";
  return out + "\n";
}

std::string table(const Outcome& outcome) {
  std::size_t id_width = 6, first_width = 14;
  for (const PromptOutcome& prompt : outcome.prompts) {
    id_width = std::max(id_width, prompt.id.size());
    first_width = std::max(first_width, first_of(prompt).size());
  }
  std::string out = fmt::format("{:<{}}  {:>6}  {:<{}}  {:>9}  {:>9}  {:>7}  {:>7}  {:>8}  {}\n", "prompt", id_width, "tokens",
                                "first mismatch", first_width, "MAE", "rel. RMS", "A top-1", "B top-1", "collapse", "verdict");
  for (const PromptOutcome& prompt : outcome.prompts) {
    const auto size = [&](auto member) {
      if (!prompt.first) return std::string("-");
      const std::optional<double>& value = prompt.first->difference.*member;
      return value ? fmt::format("{:.3e}", *value) : std::string("-");
    };
    const auto& row = prompt.table;
    out += fmt::format("{:<{}}  {:>6}  {:<{}}  {:>9}  {:>9}  {:>7}  {:>7}  {:>8}  {} ({})\n", prompt.id, id_width,
                       prompt.n_tokens > 0 ? fmt::format("{}", prompt.n_tokens) : "-", first_of(prompt), first_width,
                       size(&isolate::Difference::mae), size(&isolate::Difference::rel), token_of(row.prefill_last_top1),
                       token_of(row.decode0_top1), row.collapse ? (*row.collapse ? "true" : "false") : "-",
                       isolate::name(prompt.judgement.verdict()), isolate::name(prompt.judgement.reason));
  }
  return out;
}

std::string first_mismatch(const PromptOutcome& prompt) {
  const isolate::Mismatch& first = *prompt.first;
  std::string out = fmt::format("first       {}: {}{}, arm B's step {}: {}\n", prompt.id, first_of(prompt),
                                first.reread ? " (a KV slot as this step read it)" : "", first.step,
                                measures(first.difference, Language::english));
  out += fmt::format("evidence    {}\n", without_backquotes(evidence(first, Language::english)));
  for (std::size_t i = 1; i < std::min<std::size_t>(prompt.minimal.size(), 4); ++i) {
    const isolate::Mismatch& other = prompt.minimal[i];
    out += fmt::format("also        {}: {}\n", place(other.stage, other.layer, other.position, Language::english),
                       measures(other.difference, Language::english));
  }
  if (prompt.minimal.size() > 4)
    out += fmt::format("also        {} further causally minimal mismatches (see the log)\n", prompt.minimal.size() - 4);
  if (prompt.inherited > 0) out += fmt::format("inherited   {} later rows follow from these\n", prompt.inherited);
  if (prompt.drift)
    out += fmt::format("drift       rows before it differ below the thresholds, from {}\n",
                       place(prompt.drift->stage, prompt.drift->layer, prompt.drift->position, Language::english));
  return out;
}

std::string mode_of(const Outcome& outcome) {
  if (outcome.run.source == isolate::Source::compare) return "captures met by key: prompt, position, layer, stage";
  const auto flags = isolate::alignment_flags(outcome.experiment.exp);
  if (flags.empty()) return "E0, as designed: measured, not judged";
  return "E1, aligned by " + without_backquotes(list(flags));
}

std::string collapse_line(const Outcome& outcome) {
  const int measured = summarise(outcome).measured;
  if (measured == 0) return "unknown: no logits";
  return fmt::format("{}: {} of {} prompts give token {} at decode0", outcome.collapse.value, outcome.collapse.rows, measured,
                     outcome.collapse.id);
}

std::string tops(const PromptOutcome& prompt) {
  const auto one = [](const std::optional<isolate::TopTokens>& top) {
    if (!top) return std::string("no logits");
    if (top->top2 < 0) return fmt::format("{}", top->top1);
    return fmt::format("{} then {}, gap {:.3g}{}", top->top1, top->top2, top->gap(),
                       top->tie ? " (a tie, resolved to the lowest id)" : "");
  };
  return fmt::format("top-1       {}: A {}; B {}\n", prompt.id, one(prompt.top_a), one(prompt.top_b));
}

/// Nothing where arms are bit-equal in every logit.
std::string severity_line(const PromptOutcome& prompt) {
  if (!prompt.severity || (prompt.severity->flips == 0 && prompt.severity->largest_risk == 0)) return "";
  const isolate::Severity& s = *prompt.severity;
  std::string out = fmt::format("severity    {}: the top-1 differs at {} of {} positions", prompt.id, s.flips, s.positions);
  if (s.largest_risk > 0)
    out += fmt::format("; of the others position {} is the likeliest to flip ({:.2g})", s.riskiest, s.largest_risk);
  return out + "\n";
}

/// The cause, the causes of independent mismatches, and whether the arm is right with right values.
std::string cause_lines(const isolate::Cause& cause) {
  if (cause.state == isolate::CauseState::none) return "";
  const auto line = [](const isolate::Cause& one) {
    std::string out(isolate::name(one.state));
    if (!one.name.empty()) out += ": " + one.text();
    if (one.at)
      out +=
          fmt::format(", at {} of arm {}", place(one.at->row.stage, one.at->row.layer, one.at->row.position, Language::english),
                      one.at->arm == 'a' ? 'A' : 'B');
    return out;
  };
  std::string out = fmt::format("cause       {}\n", line(cause));
  for (const isolate::Cause& other : cause.others) out += fmt::format("            and {}\n", line(other));
  if (const std::string said = confirmation(cause, Language::english); !said.empty())
    out += fmt::format("            {}\n", said);
  return out;
}

}  // namespace

std::string text(const Outcome& outcome) {
  std::string out = fmt::format("{}\n", outcome.experiment.title);
  out += fmt::format("mode        {}\n", mode_of(outcome));
  if (!outcome.run.model_path.empty()) out += fmt::format("model       {}\n", outcome.run.model_path);
  out += arm_line('A', outcome.a) + arm_line('B', outcome.b);
  for (const std::string& note : outcome.run.notes) out += fmt::format("note        {}\n", note);
  if (!outcome.prompts.empty()) out += "\n" + table(outcome) + "\n";
  const auto shown = std::find_if(outcome.prompts.begin(), outcome.prompts.end(), [&](const PromptOutcome& prompt) {
    return prompt.first && prompt.judgement.reason == outcome.judgement.reason;
  });
  if (shown != outcome.prompts.end()) out += first_mismatch(*shown);
  for (const PromptOutcome& prompt : outcome.prompts) out += tops(prompt);
  for (const PromptOutcome& prompt : outcome.prompts) out += severity_line(prompt);
  out += fmt::format("collapse    {}\n", collapse_line(outcome));
  out += fmt::format("keys        {} of {} compared: {} bit-equal, {} within the thresholds, {} above\n", outcome.keys.compared,
                     outcome.keys.expected, outcome.keys.bit_equal, outcome.keys.drifted, outcome.keys.above);
  for (const PromptOutcome& prompt : outcome.prompts)
    if (!prompt.not_exposed.empty()) {
      out += fmt::format("not exposed {}\n", without_backquotes(list(prompt.not_exposed)));
      break;
    }
  out += fmt::format("controls    {}\n", without_backquotes(controls(outcome, Language::english)));
  out += fmt::format("verdict     {} ({}), exit {}\n", isolate::name(outcome.verdict()),
                     isolate::name(outcome.judgement.reason), outcome.exit_code());
  out += fmt::format("            {}\n            {}\n", outcome.judgement.detail, isolate::explain(outcome.judgement.reason));
  out += cause_lines(outcome.cause);
  if (!outcome.run.run_dir.empty()) out += fmt::format("artefacts   {}\n", outcome.run.run_dir);
  out += fmt::format("next        {}\n", outcome.next_command);
  return out;
}

std::string audit_text(const isolate::Cause& cause) {
  if (cause.state == isolate::CauseState::none) return "cause       NONE: the arms agree\n";
  std::string out = cause_lines(cause);
  out += fmt::format("bucket      {}\n", bucket(cause));
  if (!cause.candidates.empty()) out += "candidates\n";
  for (const std::string& candidate : cause.candidates) out += fmt::format("            {}\n", candidate);
  return out;
}

}  // namespace greta::report
