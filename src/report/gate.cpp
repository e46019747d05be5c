#include "report/gate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

namespace greta::report {
namespace {

using Json = nlohmann::ordered_json;
using isolate::Check;
using isolate::GateOutcome;

std::string short_number(const std::optional<double>& value) { return value ? fmt::format("{:.4g}", *value) : "-"; }

bool at_least(const Check& check) { return check.what.starts_with(name(isolate::Figure::top1_agreement)); }

std::string limit_text(const Check& check) {
  if (!check.limit) return "-";
  if (check.what == "controls") return "all of " + short_number(check.limit);
  return (at_least(check) ? ">= " : "<= ") + short_number(check.limit);
}

/// One cell of a Markdown table, whatever the text holds.
std::string cell(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '|' || c == '\\') out += '\\';
    out += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? ' ' : c;
  }
  return out;
}

Json number(const std::optional<double>& value) {
  if (!value) return {};
  if (std::isfinite(*value)) return *value;
  return std::isnan(*value) ? "NaN" : "Infinity";
}

std::string plain(isolate::CheckResult result) {
  return result == isolate::CheckResult::cannot_tell ? "cannot tell" : std::string(name(result));
}

}  // namespace

std::string gate_line(const Check& check) {
  std::string out = check.what;
  if (check.value) out += " " + short_number(check.value);
  if (check.limit)
    out += fmt::format(" (wanted {}{})", limit_text(check), check.baseline ? "; baseline " + short_number(check.baseline) : "");
  return check.detail.empty() ? out : out + ": " + check.detail;
}

std::string gate_text(const GateOutcome& gate) {
  std::size_t width = 4;
  for (const Check& check : gate.checks) width = std::max(width, check.prompt.size());
  std::string out;
  for (const Check& check : gate.checks)
    out += fmt::format("{:<11}  {:<{}}  {}\n", plain(check.result), check.prompt.empty() ? "all" : check.prompt, width,
                       gate_line(check));
  if (gate.baseline) out += fmt::format("baseline     build {}, {}\n", gate.baseline->build, gate.baseline->date);
  if (gate.exit_code() != 0) out += fmt::format("reproduce    {}\n", gate.run.command);
  return out + fmt::format("gate {}: {}, exit {}\n", gate.id, plain(gate.result()), gate.exit_code());
}

std::string gate_markdown(const GateOutcome& gate) {
  const isolate::Judgement& judgement = gate.run.judgement;
  std::string out = fmt::format("## Gate {}: {}\n\n", cell(gate.id), plain(gate.result()));
  out += fmt::format("Verdict of the comparison: {} ({}): {}\n\n", isolate::name(judgement.verdict()), name(judgement.reason),
                     cell(judgement.detail));
  out += fmt::format("Build {}, model {}", cell(gate.run.build), cell(gate.run.model_hash));
  if (gate.baseline) out += fmt::format("; baseline of build {}, {}", cell(gate.baseline->build), cell(gate.baseline->date));
  out += ".\n\n| prompt | what | value | limit | baseline | result | |\n|---|---|---:|---:|---:|---|---|\n";
  for (const Check& check : gate.checks)
    out += fmt::format("| {} | {} | {} | {} | {} | {} | {} |\n", check.prompt.empty() ? "(all)" : cell(check.prompt),
                       check.what, short_number(check.value), limit_text(check), short_number(check.baseline),
                       plain(check.result), cell(check.detail));
  if (gate.exit_code() != 0) out += fmt::format("\n```sh\n{}\n```\n", gate.run.command);
  return out;
}

std::string gate_json(const GateOutcome& gate) {
  Json checks = Json::array(), prompts = Json::array();
  for (const Check& check : gate.checks)
    checks.push_back({{"prompt", check.prompt.empty() ? Json() : Json(check.prompt)},
                      {"what", check.what},
                      {"result", name(check.result)},
                      {"value", number(check.value)},
                      {"limit", number(check.limit)},
                      {"baseline", number(check.baseline)},
                      {"detail", check.detail}});
  for (const isolate::GatePrompt& prompt : gate.run.prompts) {
    const isolate::PromptFigures& figures = prompt.figures;
    Json one = {{"id", prompt.id},
                {"verdict", isolate::name(prompt.judgement.verdict())},
                {"reason", name(prompt.judgement.reason)},
                {"rows", figures.rows},
                {"lower_bound", figures.lower_bound},
                {"positions", figures.positions}};
    for (const isolate::Figure figure : isolate::kFigures)
      one[std::string(name(figure))] = number(isolate::figure_of(figures, figure));
    prompts.push_back(one);
  }
  Json baseline;
  if (gate.baseline) baseline = {{"build", gate.baseline->build}, {"date", gate.baseline->date}};
  const Json document = {{"schema", 1},
                         {"gate", gate.id},
                         {"result", name(gate.result())},
                         {"exit_code", gate.exit_code()},
                         {"verdict", isolate::name(gate.run.judgement.verdict())},
                         {"reason", name(gate.run.judgement.reason)},
                         {"experiment", gate.run.experiment},
                         {"model_hash", gate.run.model_hash},
                         {"build", gate.run.build},
                         {"controls", {{"planted", gate.run.controls}, {"found", gate.run.controls_found}}},
                         {"baseline", baseline},
                         {"checks", checks},
                         {"prompts", prompts}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace greta::report
