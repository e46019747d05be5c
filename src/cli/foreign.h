// What analyze and compare share: captures from files, name maps, the settings of the run that wrote them.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "isolate/outcome.h"
#include "trace/json.h"
#include "trace/load.h"
#include "trace/name_map.h"

namespace greta::cli {

/// A map of another engine's stage names: TOML with one table, [points], "their name" = "our stage"; a name may hold one
/// "{layer}". Throws Error: syntax, an unknown key or stage, a point given twice.
NameMap load_name_map(const std::filesystem::path& file);

/// load_captures; Error where nothing in `path` is a trace line. What could not be read is printed (print_issues).
LoadedCaptures load_traces(const std::filesystem::path& path, const LoadOptions& options);

/// The built-in experiment without prompts; under the manifest's experiment id where that is another one.
isolate::ExperimentSpec experiment_of(const LoadedCaptures& loaded);
/// verdict.json of a run, which the manifest has vouched for; nothing where there is none. Throws Error where it is no JSON.
std::optional<json::Value> verdict_of_run(const std::filesystem::path& directory);
/// Thresholds and collapse token that `isolate` wrote into verdict.json of a verified run directory.
void apply_settings_of_run(const std::filesystem::path& directory, isolate::ExperimentSpec& spec);

/// What captures do not hold: by prompt, what the judge of ops found in that run, and whether its arms had other weights.
/// Throws Error for a file that says it wrongly.
struct RecordedRun {
  std::map<std::string, isolate::LocalPair> local;
  bool weights_differ = false;
};
RecordedRun recorded_run(const std::filesystem::path& directory);

/// The verdict that a run wrote; nothing where it wrote none. Throws Error for a file that is no JSON.
std::optional<isolate::Verdict> verdict_written(const std::filesystem::path& directory);

/// One line on stderr for each thing that could not be read; after 20 their number.
void print_issues(const std::vector<Issue>& issues);

}  // namespace greta::cli
