// `greta faults`: the kinds of fault that can be planted, their keys, and where each must be found.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "fault/spec.h"

namespace greta::cli {
namespace {

constexpr std::string_view kForm =
    "KIND@(prefill|decode|any)[:layer=N|-1|all][:stage=S][:position=P|-1|all][:KEY=VALUE...]";

void print_text() {
  fmt::print("A fault is {}\n-1 is the last layer, or the last position of the prompt; an omitted layer or position is all, an "
             "omitted stage the kind's own.\n\n", kForm);
  for (const FaultInfo& kind : fault_catalogue()) {
    fmt::print("{}\n  what     {}\n  keys     {}\n  stages  ", kind.name, kind.doc, kind.keys);
    for (const Stage stage : kind.stages) fmt::print(" {}", name(stage));
    fmt::print("{}\n  found at {}\n  stands for: {}\n\n", kind.stage_required ? " (one must be named)" : "", kind.found_at,
               kind.stands_for);
  }
  fmt::print("Presets\n");
  for (const FaultPreset& preset : fault_presets())
    fmt::print("  {} = {}\n    {}\n", preset.name, preset.expansion, preset.doc);
}

void print_json() {
  nlohmann::ordered_json out;
  out["form"] = kForm;
  for (const FaultInfo& kind : fault_catalogue()) {
    nlohmann::ordered_json row{{"kind", kind.name}, {"what", kind.doc}, {"keys", kind.keys}, {"found_at", kind.found_at},
                               {"stands_for", kind.stands_for}, {"stage_required", kind.stage_required}};
    for (const Stage stage : kind.stages) row["stages"].push_back(name(stage));
    out["kinds"].push_back(std::move(row));
  }
  for (const FaultPreset& preset : fault_presets())
    out["presets"].push_back({{"name", preset.name}, {"expansion", preset.expansion}, {"what", preset.doc}});
  fmt::print("{}\n", out.dump(2));
}

}  // namespace

void add_faults(CLI::App& app, Program& program) {
  auto* verb = app.add_subcommand("faults", "List the faults that can be planted, and where each must be found");
  auto json = std::make_shared<bool>(false);
  verb->add_flag("--json", *json, "Print JSON");
  verb->callback([json, &program] {
    program.action = [json] {
      *json ? print_json() : print_text();
      return 0;
    };
  });
}

}  // namespace greta::cli
