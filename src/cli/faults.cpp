// `greta faults`: the kinds of fault that can be planted, their keys, and where each must be found.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "cli/verbs.h"
#include "fault/catalogue.h"

namespace greta::cli {
namespace {

constexpr std::string_view kForm = "KIND@(prefill|decode|any)[:layer=N|-1|all][:stage=S][:position=P|-1|all][:KEY=VALUE...]";

std::string stages_text(const FaultInfo& kind) {
  if (kind.stages.size() == all_stages().size()) return "any";
  std::string text;
  for (const Stage stage : kind.stages) text += fmt::format("{}{}", text.empty() ? "" : " ", name(stage));
  return text;
}

void print_text() {
  fmt::print(
      "A fault is {}\n-1 is the last layer, or the last position of the prompt; an omitted layer or position is all, an "
      "omitted stage the kind's own.\n\n",
      kForm);
  for (const FaultInfo& kind : fault_catalogue()) {
    fmt::print("{}\n  what       {}\n  keys       {}\n  stages     {}{}\n  found at   {}\n", kind.name, kind.doc,
               keys_text(kind), stages_text(kind), kind.stage_required ? " (one must be named)" : "", kind.found_at);
    if (!kind.idle.empty()) fmt::print("  no effect  {}\n", kind.idle);
    if (!kind.needs.empty()) fmt::print("  needs      {}\n", kind.needs);
    fmt::print("  shows in   the {}\n  stands for {}\n\n", name(kind.shows), kind.stands_for);
  }
  fmt::print("Presets\n");
  for (const FaultPreset& preset : fault_presets())
    fmt::print("  {} = {}\n    {}\n", preset.name, preset.expansion, preset.doc);
}

void print_json() {
  nlohmann::ordered_json out;
  out["form"] = kForm;
  for (const FaultInfo& kind : fault_catalogue()) {
    nlohmann::ordered_json row{{"kind", kind.name},
                               {"family", kind.family},
                               {"what", kind.doc},
                               {"found_at", kind.found_at},
                               {"no_effect", kind.idle},
                               {"needs", kind.needs},
                               {"shows_in", name(kind.shows)},
                               {"stands_for", kind.stands_for},
                               {"stage_required", kind.stage_required}};
    row["keys"] = nlohmann::json::array();
    for (const FaultKey& key : kind.keys)
      row["keys"].push_back({{"key", key.name}, {"required", key.required}, {"default", key.fallback}, {"what", key.doc}});
    for (const Stage stage : kind.stages) row["stages"].push_back(name(stage));
    out["kinds"].push_back(std::move(row));
  }
  for (const FaultPreset& preset : fault_presets())
    out["presets"].push_back({{"name", preset.name}, {"expansion", preset.expansion}, {"what", preset.doc}});
  fmt::print("{}\n", out.dump(2));
}

/// The tables of docs/faults.md.
void print_markdown() {
  std::string_view family;
  for (const FaultInfo& kind : fault_catalogue()) {
    if (kind.family != family)
      fmt::print(
          "{}### {}\n\n| kind | what is wrong | keys | stages | found at | without effect | needs | shows in | stands for |\n"
          "|---|---|---|---|---|---|---|---|---|\n",
          family.empty() ? "" : "\n", kind.family);
    family = kind.family;
    std::string keys = keys_text(kind);
    for (std::size_t at = keys.find('|'); at != std::string::npos; at = keys.find('|', at + 2)) keys.insert(at, "\\");
    fmt::print("| `{}` | {} | {} | {}{} | {} | {} | {} | {} | {} |\n", kind.name, kind.doc, keys, stages_text(kind),
               kind.stage_required ? " (one must be named)" : "", kind.found_at, kind.idle, kind.needs, name(kind.shows),
               kind.stands_for);
  }
}

}  // namespace

void add_faults(CLI::App& app, Program& program) {
  auto* verb = app.add_subcommand("faults", "List the faults that can be planted, and where each must be found");
  auto json = std::make_shared<bool>(false), markdown = std::make_shared<bool>(false);
  auto* as_json = verb->add_flag("--json", *json, "Print JSON");
  verb->add_flag("--markdown", *markdown, "Print the tables of docs/faults.md")->excludes(as_json);
  verb->callback([json, markdown, &program] {
    program.action = [json, markdown] {
      *markdown ? print_markdown() : *json ? print_json() : print_text();
      return 0;
    };
  });
}

}  // namespace greta::cli
