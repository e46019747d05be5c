#include "report/json.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "report/words.h"

namespace greta::report {
namespace {

using Json = nlohmann::ordered_json;
using isolate::Mismatch;
using isolate::Outcome;
using isolate::PromptOutcome;

template <class T>
Json or_null(const std::optional<T>& value) {
  return value ? Json(*value) : Json();
}

Json number(const std::optional<double>& value) { return value && std::isfinite(*value) ? Json(*value) : Json(); }

Json pairs(const std::vector<std::pair<std::string, std::string>>& all) {
  Json object = Json::object();
  for (const auto& [key, value] : all) object[key] = value;
  return object;
}

Json mismatch_json(const Mismatch& mismatch) {
  return {{"position", mismatch.position},          {"layer", mismatch.layer},
          {"stage", name(mismatch.stage)},          {"mae", number(mismatch.difference.mae)},
          {"rel", number(mismatch.difference.rel)}, {"bound", nullptr}};
}

Json arm_json(const isolate::ArmOutcome& arm) {
  Json schedules = Json::object();
  for (const auto& [prompt, schedule] : arm.schedules) schedules[prompt] = schedule;
  return {{"backend", arm.backend},      {"plan", arm.plan},       {"schedule", schedules},
          {"routes", pairs(arm.routes)}, {"threads", arm.threads}, {"host", arm.host}};
}

Json control_json(const isolate::ControlResult& control) {
  return {{"stage", name(control.spec.stage)},
          {"layer", control.spec.layer},
          {"position", control.spec.position},
          {"magnitude", control.spec.magnitude()},
          {"found", control.found},
          {"kind", control.in_memory ? "in_memory" : "rerun"},
          {"prompt", control.spec.prompt_id},
          {"where", control.where}};
}

Json table_json(const Outcome& outcome, const PromptOutcome& prompt) {
  const isolate::TableRow& row = prompt.table;
  Json table = {{"prompt", prompt.id}, {"exp", isolate::name(prompt.exp)}, {"first_mismatch_stage", row.first_mismatch_stage}};
  for (const Stage stage : post_wo_stages()) table[fmt::format("{}_mae", name(stage))] = number(row.mae_of(stage));
  table["logits_mean_delta"] = number(row.logits_mean_delta);
  table["prefill_last_top1"] = or_null(row.prefill_last_top1);
  table["decode0_top1"] = or_null(row.decode0_top1);
  table[fmt::format("collapse_{}", outcome.collapse.id)] = or_null(row.collapse);
  table["first_mismatch_layer"] = or_null(row.first_mismatch_layer);
  table["first_mismatch_pos"] = or_null(row.first_mismatch_pos);
  return table;
}

Json local_json(const isolate::LocalJudgement& arm) {
  Json guilty = Json::array();
  for (const isolate::LocalFinding& row : arm.guilty)
    guilty.push_back({{"stage", name(row.stage)},
                      {"layer", row.layer},
                      {"position", row.position},
                      {"step", row.step},
                      {"ratio", number(row.ratio)},
                      {"what", row.what}});
  return {{"rows", arm.rows},
          {"unjudged", arm.unjudged},
          {"first_unjudged", arm.first_unjudged.empty() ? Json() : Json(arm.first_unjudged)},
          {"worst_ratio", arm.worst_ratio},
          {"worst", arm.worst.empty() ? Json() : Json(arm.worst)},
          {"guilty_rows", arm.guilty_rows},
          {"guilty", guilty}};
}

Json severity_json(const isolate::Severity& s) {
  return {{"positions", s.positions},
          {"flips", s.flips},
          {"first_flip", s.first_flip < 0 ? Json() : Json(s.first_flip)},
          {"largest_risk", s.largest_risk},
          {"riskiest", s.riskiest < 0 ? Json() : Json(s.riskiest)},
          {"mean_risk", s.mean_risk}};
}

Json gains_json(const std::vector<isolate::StageGain>& gains) {
  Json out = Json::array();
  for (const isolate::StageGain& one : gains)
    out.push_back({{"stage", name(one.stage)}, {"rel", one.rel}, {"gain", one.gain}, {"layers", one.layers}});
  return out;
}

Json prompt_json(const Outcome& outcome, const PromptOutcome& prompt) {
  Json minimal = Json::array();
  for (const Mismatch& mismatch : prompt.minimal) minimal.push_back(mismatch_json(mismatch));
  return {{"id", prompt.id},
          {"n_tokens", prompt.n_tokens},
          {"verdict", isolate::name(prompt.judgement.verdict())},
          {"reason", isolate::name(prompt.judgement.reason)},
          {"first", prompt.first ? mismatch_json(*prompt.first) : Json()},
          {"minimal", minimal},
          {"table", table_json(outcome, prompt)},
          {"top1", {{"a", or_null(prompt.table.prefill_last_top1)}, {"b", or_null(prompt.table.decode0_top1)}}},
          {"severity", prompt.severity ? severity_json(*prompt.severity) : Json()},
          {"gains", gains_json(prompt.gains)},
          {"gap", prompt.top_a ? number(prompt.top_a->gap()) : Json()},
          {"local", prompt.local ? Json{{"a", local_json(prompt.local->a)}, {"b", local_json(prompt.local->b)}} : Json()}};
}

Json cause_place_json(const isolate::CausePlace& at) {
  return {{"prompt", at.prompt},
          {"arm", std::string(1, at.arm)},
          {"stage", name(at.row.stage)},
          {"layer", at.row.layer},
          {"position", at.row.position}};
}

Json substitution_json(const isolate::Substitution& run) {
  return {{"rows", run.rows}, {"guilty", run.guilty}, {"left", run.left}, {"agrees", run.agrees()}};
}

Json cause_json(const isolate::Cause& cause) {
  Json others = Json::array();
  for (const isolate::Cause& other : cause.others) others.push_back(cause_json(other));
  return {{"state", isolate::name(cause.state)},
          {"name", cause.name.empty() ? Json() : Json(cause.name)},
          {"params", pairs(cause.params)},
          {"confirmed", cause.confirmed},
          {"candidates", cause.candidates},
          {"at", cause.at ? cause_place_json(*cause.at) : Json()},
          {"substitution", cause.substitution ? substitution_json(*cause.substitution) : Json()},
          {"others", others}};
}

}  // namespace

std::string audit_json(const isolate::Cause& cause) {
  const Json document = {{"schema", 1}, {"bucket", bucket(cause)}, {"cause", cause_json(cause)}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string verdict_json(const Outcome& outcome) {
  Json controls = Json::array();
  for (const auto& control : outcome.controls) controls.push_back(control_json(control));
  Json prompts = Json::array();
  for (const PromptOutcome& prompt : outcome.prompts) prompts.push_back(prompt_json(outcome, prompt));
  const Json document = {
      {"schema", 1},
      {"verdict", isolate::name(outcome.verdict())},
      {"reason", isolate::name(outcome.judgement.reason)},
      {"exit_code", outcome.exit_code()},
      {"experiment",
       {{"id", outcome.experiment.id},
        {"exp", isolate::name(outcome.experiment.exp)},
        {"flags", isolate::alignment_flags(outcome.experiment.exp)},
        {"shift", outcome.experiment.shift ? Json(outcome.experiment.shift->text()) : Json()}}},
      {"model",
       {{"path", outcome.run.model_path}, {"hash", outcome.run.model_hash}, {"weights_differ", outcome.run.weights_differ}}},
      {"build", outcome.run.build},
      {"arms", {{"a", arm_json(outcome.a)}, {"b", arm_json(outcome.b)}}},
      {"keys", {{"compared", outcome.keys.compared}, {"expected", outcome.keys.expected}}},
      {"control", controls},
      {"prompts", prompts},
      {"collapse", {{"value", outcome.collapse.value}, {"token", outcome.collapse.id}}},
      {"cause", cause_json(outcome.cause)},
      {"thresholds", {{"mae", outcome.experiment.thresholds.mae}, {"rel", outcome.experiment.thresholds.rel}}},
      {"next_command", outcome.next_command}};
  return document.dump(2, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace greta::report
