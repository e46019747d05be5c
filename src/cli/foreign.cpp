#include "cli/foreign.h"

#include <fmt/format.h>
#include <toml++/toml.h>

#include "core/error.h"
#include "core/quote.h"
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

void apply_settings_of_run(const std::filesystem::path& directory, isolate::ExperimentSpec& spec) {
  const std::filesystem::path file = directory / "verdict.json";
  if (!std::filesystem::exists(file)) return;
  const auto document = json::parse(read_file(file, std::uint64_t{256} << 20), {.depth = 64, .values = 20'000'000});
  if (!document)
    fail("{}: {}; run isolate again, or analyze the JSONL files in a directory of their own", file.string(), document.error());
  if (const json::Value* thresholds = document->find("thresholds")) {
    if (const json::Value* mae = thresholds->find("mae")) spec.thresholds.mae = mae->number().value_or(spec.thresholds.mae);
    if (const json::Value* rel = thresholds->find("rel")) spec.thresholds.rel = rel->number().value_or(spec.thresholds.rel);
  }
  if (const json::Value* collapse = document->find("collapse"))
    if (const json::Value* token = collapse->find("token")) spec.collapse_token = token->integer();
}

void print_issues(const std::vector<Issue>& issues) {
  constexpr std::size_t kShown = 20;
  for (std::size_t i = 0; i < issues.size() && i < kShown; ++i) fmt::print(stderr, "greta: {}\n", issues[i].text());
  if (issues.size() > kShown) fmt::print(stderr, "greta: and {} more of these\n", issues.size() - kShown);
}

}  // namespace greta::cli
