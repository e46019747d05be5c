#include "cli/foreign.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "core/error.h"
#include "core/quote.h"
#include "trace/field.h"
#include "trace/file_io.h"
#include "trace/json.h"

namespace greta::cli {

NameMap load_name_map(const std::filesystem::path& file) {
  const std::string text = read_file(file, std::uint64_t{1} << 20);
  toml::table root;
  try {
    root = toml::parse(text);
  } catch (const toml::parse_error& error) {
    fail("{}: line {}, column {}: {}", file.string(), error.source().begin.line, error.source().begin.column,
         quote(error.description(), 200));
  }
  NameMap names;
  for (const auto& [key, node] : root)
    if (key.str() != "points" || !node.is_table())
      fail("{}: unknown key {}; a name map has one table, [points], of \"their name\" = \"our stage\"", file.string(),
           quote(key.str()));
  const toml::table* points = root["points"].as_table();
  if (points == nullptr || points->empty())
    fail("{}: no [points]; add \"their name\" = \"our stage\" lines to it", file.string());
  for (const auto& [point, stage] : *points) {
    const auto ours = stage.value_exact<std::string>();
    if (!ours) fail("{}: [points] {}: the stage is not a string", file.string(), quote(point.str()));
    try {
      names.add(point.str(), *ours);
    } catch (const Error& error) {
      fail("{}: [points]: {}", file.string(), error.what());
    }
  }
  return names;
}

LoadedCaptures load_traces(const std::filesystem::path& path, const LoadOptions& options) {
  LoadedCaptures loaded = load_captures(path, options);
  if (loaded.pairs.empty())
    fail("{}: no line of it is a trace line (the first: {}); docs/your-engine.md shows how they look", path.string(),
         loaded.issues.front().text());
  // A row that is lost may be the first that differs: of what greta itself wrote, all is there or nothing is said.
  for (const Issue& issue : loaded.issues)
    if (issue.ours && issue.loses_data())
      fail("{}; greta wrote this file whole: take it as it was written, or record the run again", issue.text());
  print_issues(loaded.issues);
  return loaded;
}

isolate::ExperimentSpec experiment_of(const LoadedCaptures& loaded) {
  isolate::ExperimentSpec spec = isolate::builtin_experiment();
  spec.prompts.clear();
  if (!loaded.experiment.empty() && loaded.experiment != spec.id) {
    spec.id = loaded.experiment;
    spec.title = loaded.experiment;
  }
  return spec;
}

std::optional<json::Value> verdict_of_run(const std::filesystem::path& directory) {
  const std::filesystem::path file = directory / "verdict.json";
  if (!std::filesystem::exists(file)) return std::nullopt;
  auto document = json::parse(read_file(file, std::uint64_t{256} << 20), {.depth = 64, .values = 20'000'000});
  if (!document)
    fail("{}: {}; run isolate again, or analyze the JSONL files in a directory of their own", file.string(), document.error());
  return std::move(*document);
}

namespace {

isolate::LocalJudgement local_judgement(const json::Value& arm, const std::string& where) {
  isolate::LocalJudgement out;
  trace::Fields fields(arm);
  fields.integer_into("rows", out.rows, 0, std::numeric_limits<std::int64_t>::max());
  fields.integer_into("unjudged", out.unjudged, 0, std::numeric_limits<std::int64_t>::max());
  fields.integer_into("guilty_rows", out.guilty_rows, 0, std::numeric_limits<std::int64_t>::max());
  fields.number_into("worst_ratio", out.worst_ratio);
  if (const std::string* text = fields.text("worst")) out.worst = *text;
  if (const std::string* text = fields.text("first_unjudged")) out.first_unjudged = *text;
  const json::Value::Array* guilty = fields.array("guilty");
  for (std::size_t i = 0; guilty != nullptr && i < std::min(guilty->size(), isolate::kMostFindings); ++i) {
    trace::Fields one((*guilty)[i]);
    isolate::LocalFinding finding;
    const std::string* stage = one.text("stage");
    const auto known = stage != nullptr ? stage_from_name(*stage) : std::nullopt;
    finding.layer = one.int32("layer").value_or(0);
    finding.position = one.int32("position").value_or(0);
    finding.step = one.int32("step").value_or(0);
    one.number_into("ratio", finding.ratio);
    if (const std::string* text = one.text("what")) finding.what = *text;
    if (!known || !one.ok()) fail("{}: guilty row {}: {}", where, i, known ? one.error() : "an unknown stage");
    finding.stage = *known;
    out.guilty.push_back(std::move(finding));
  }
  if (!fields.ok()) fail("{}: {}", where, fields.error());
  return out;
}

}  // namespace

void apply_settings_of_run(const std::filesystem::path& directory, isolate::ExperimentSpec& spec) {
  const auto document = verdict_of_run(directory);
  if (!document) return;
  if (const json::Value* thresholds = document->find("thresholds")) {
    if (const json::Value* mae = thresholds->find("mae")) spec.thresholds.mae = mae->number().value_or(spec.thresholds.mae);
    if (const json::Value* rel = thresholds->find("rel")) spec.thresholds.rel = rel->number().value_or(spec.thresholds.rel);
  }
  if (const json::Value* collapse = document->find("collapse"))
    if (const json::Value* token = collapse->find("token")) spec.collapse_token = token->integer();
}

RecordedRun recorded_run(const std::filesystem::path& directory) {
  RecordedRun out;
  const auto document = verdict_of_run(directory);
  if (const json::Value* model = document ? document->find("model") : nullptr)
    if (const json::Value* differ = model->find("weights_differ")) out.weights_differ = differ->boolean().value_or(false);
  const json::Value* prompts = document ? document->find("prompts") : nullptr;
  const json::Value::Array* list = prompts != nullptr ? prompts->array() : nullptr;
  for (std::size_t i = 0; list != nullptr && i < list->size(); ++i) {
    const json::Value* id = (*list)[i].find("id");
    const json::Value* local = (*list)[i].find("local");
    const json::Value* a = local != nullptr ? local->find("a") : nullptr;
    const json::Value* b = local != nullptr ? local->find("b") : nullptr;
    if (id == nullptr || id->string() == nullptr || a == nullptr || b == nullptr) continue;
    const std::string where = fmt::format("{}: prompt {}", (directory / "verdict.json").string(), quote(*id->string()));
    out.local[*id->string()] = {local_judgement(*a, where), local_judgement(*b, where)};
  }
  return out;
}

std::optional<isolate::Verdict> verdict_written(const std::filesystem::path& directory) {
  const auto document = verdict_of_run(directory);
  const json::Value* verdict = document ? document->find("verdict") : nullptr;
  if (verdict == nullptr || verdict->string() == nullptr) return std::nullopt;
  return isolate::verdict_from_name(*verdict->string());
}

void print_issues(const std::vector<Issue>& issues) {
  constexpr std::size_t kShown = 20;
  for (std::size_t i = 0; i < issues.size() && i < kShown; ++i) fmt::print(stderr, "greta: {}\n", issues[i].text());
  if (issues.size() > kShown) fmt::print(stderr, "greta: and {} more of these\n", issues.size() - kShown);
}

}  // namespace greta::cli
