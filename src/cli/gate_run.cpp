#include "cli/gate_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "cli/artifacts.h"
#include "cli/command_line.h"
#include "cli/foreign.h"
#include "cli/isolate_run.h"
#include "core/error.h"
#include "core/quote.h"
#include "trace/run_directory.h"
#include "trace/safetensors.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;

/// An arm's text with the path of its model relative to the config's folder, as all paths of a config.
std::string arm_text(const char* key, const std::string& text, const fs::path& directory) {
  ArmOptions options;
  options.parse(key, text);
  if (!options.model.empty()) options.model = directory / options.model;
  return options.text();
}

IsolateOptions isolate_options(const isolate::GateConfig& config) {
  IsolateOptions options;
  options.subject = config.experiment.string();
  options.model = config.model.string();
  for (const fs::path& file : config.prompt_files) options.prompt_files.push_back(file.string());
  options.prompt = config.prompt;
  options.layers = config.layers;
  options.stages = config.stages;
  options.span = config.span;
  options.arm_a = arm_text("arm_a", config.arm_a, config.directory);
  options.arm_b = arm_text("arm_b", config.arm_b, config.directory);
  options.no_bounds = !config.bounds;
  options.for_figures = true;
  return options;
}

/// The command line of `isolate` that does the same.
std::vector<std::string> arguments_of(const IsolateOptions& options) {
  std::vector<std::string> out = {"isolate"};
  const auto add = [&](const char* flag, const std::string& value) {
    if (!value.empty()) out.insert(out.end(), {flag, value});
  };
  if (!options.subject.empty()) out.push_back(options.subject);
  add("--model", options.model);
  for (const std::string& file : options.prompt_files) add("--prompt-file", file);
  add("--prompt", options.prompt.value_or(""));
  add("--arm-a", options.arm_a);
  add("--arm-b", options.arm_b);
  add("--layers", options.layers);
  add("--stages", options.stages);
  if (options.span > 0) add("--span", fmt::format("{}", options.span));
  if (options.no_bounds) out.push_back("--no-bounds");
  return out;
}

/// Logits that --trace-full kept; none where the run has no such file.
isolate::LogitsRows logits_of(const fs::path& directory, const Manifest& manifest, const char* arm, const std::string& prompt) {
  isolate::LogitsRows rows;
  const fs::path relative = fs::path("captures") / arm / prompt / "full.safetensors";
  const auto known = [&](const ManifestFile& file) { return file.path == relative.generic_string(); };
  if (!is_file_name(prompt) || std::none_of(manifest.files.begin(), manifest.files.end(), known)) return rows;
  const SafetensorsFile file(directory / relative);
  const TensorEntry* logits = file.find(name(Stage::logits));
  if (logits == nullptr || logits->shape.size() != 2 || logits->shape[0] == 0) return rows;
  const auto n = static_cast<std::size_t>(logits->shape[0]), vocab = static_cast<std::size_t>(logits->shape[1]);
  std::vector<double> positions;
  if (const TensorEntry* entry = file.find(fmt::format("{}.positions", name(Stage::logits)))) positions = file.read_f64(*entry);
  if (positions.empty())
    for (std::size_t r = 0; r < n; ++r) positions.push_back(static_cast<double>(r));
  if (positions.size() != n)
    fail("{}: {} rows of logits at {} positions; run isolate again", (directory / relative).string(), n, positions.size());
  const std::vector<double> values = file.read_f64(*logits);
  for (std::size_t r = 0; r < n; ++r) {
    const auto begin = values.begin() + static_cast<std::ptrdiff_t>(r * vocab);
    if (positions[r] >= 0 && positions[r] < 2147483648.0)
      rows[static_cast<std::int32_t>(positions[r])].assign(begin, begin + static_cast<std::ptrdiff_t>(vocab));
  }
  return rows;
}

/// What verdict.json says of `object`; `where` names it in errors.
isolate::Judgement judgement_of(const json::Value& object, const std::string& where) {
  const json::Value* text = object.find("reason");
  const auto reason = text != nullptr && text->string() != nullptr ? isolate::reason_from_name(*text->string()) : std::nullopt;
  if (!reason) fail("{}: no reason of a verdict that is known; run isolate again", where);
  return {*reason, "as the run recorded it"};
}

std::string text_at(const json::Value& document, const char* table, const char* key) {
  const json::Value* found = document.find(table);
  if (found != nullptr && key[0] != '\0') found = found->find(key);
  return found != nullptr && found->string() != nullptr ? *found->string() : "";
}

void read_controls(const json::Value& document, isolate::GateRun& run) {
  const json::Value* controls = document.find("control");
  if (controls == nullptr || controls->array() == nullptr) return;
  for (const json::Value& control : *controls->array()) {
    const json::Value* found = control.find("found");
    ++run.controls;
    if (found != nullptr && found->boolean().value_or(false)) ++run.controls_found;
  }
}

/// The recorded judgement of each prompt.
std::map<std::string, isolate::Judgement> judgements_of(const json::Value& document, const std::string& where) {
  std::map<std::string, isolate::Judgement> out;
  const json::Value* prompts = document.find("prompts");
  if (prompts == nullptr || prompts->array() == nullptr) return out;
  for (const json::Value& prompt : *prompts->array())
    if (const json::Value* id = prompt.find("id"); id != nullptr && id->string() != nullptr)
      out[*id->string()] = judgement_of(prompt, where + ": prompt " + quote(*id->string()));
  return out;
}

void add_prompt(isolate::GateRun& run, const isolate::Judgement& judgement, const isolate::PromptPair& pair,
                const isolate::ExperimentSpec& spec, const isolate::LogitsRows& a, const isolate::LogitsRows& b) {
  isolate::GatePrompt prompt{pair.b.prompt_id, judgement, {}};
  prompt.figures.id = prompt.id;
  const auto verdict = judgement.verdict();
  const bool measured = judgement.reason != isolate::Reason::misaligned && verdict != isolate::Verdict::expected_drift;
  if (measured) prompt.figures = isolate::measure_figures(pair, spec, a, b);
  run.prompts.push_back(std::move(prompt));
}

}  // namespace

isolate::GateRun compute_comparison(const isolate::GateConfig& config, const std::string& out) {
  const IsolateOptions options = isolate_options(config);
  Program program;
  program.arguments = arguments_of(options);
  IsolateRun isolation(options);
  std::optional<RunArtifacts> artifacts;
  if (!out.empty()) artifacts.emplace(out, isolation.setup().experiment.id, today());
  isolation.run_prompts(program, artifacts ? artifacts->final_path().string() : "");
  const isolate::Outcome outcome = isolation.judge();
  if (isolation.terminal()) fmt::print(stderr, "\r\033[K");
  if (artifacts) {
    artifacts->write(outcome, isolation.pairs(), report::Language::both);
    artifacts->commit();
  }
  isolate::GateRun run;
  run.judgement = outcome.judgement;
  run.experiment = outcome.experiment.id;
  run.model_hash = outcome.run.model_hash;
  run.build = outcome.run.build;
  run.date = outcome.run.date;
  run.controls = static_cast<int>(outcome.controls.size());
  run.controls_found = outcome.controls_found();
  run.command = outcome.run.command;
  run.identity = isolate::identity_of(isolation.pairs(), run.experiment);
  for (const isolate::PromptOutcome& prompt : outcome.prompts)
    for (std::size_t i = 0; i < isolation.runs().size(); ++i)
      if (isolation.prompts()[i].id == prompt.id)
        add_prompt(run, prompt.judgement, isolation.pairs()[i], outcome.experiment, isolation.runs()[i]->logits_a(),
                   isolation.runs()[i]->logits_b());
  return run;
}

isolate::GateRun recorded_comparison(const fs::path& directory) {
  refuse_incomplete(directory);
  if (!is_run_directory(directory))
    fail("{}: no run directory (there is no manifest.json in it); name one that isolate wrote", directory.string());
  const Manifest manifest = verify_run_directory(directory);
  LoadedCaptures loaded = load_traces(directory, {});
  const auto document = verdict_of_run(directory);
  const std::string where = (directory / "verdict.json").string();
  if (!document) fail("{}: there is none; name a run directory that isolate wrote", where);
  isolate::GateRun run;
  run.judgement = judgement_of(*document, where);
  if (run.judgement.verdict() == isolate::Verdict::agree && loaded.unreadable_lines() > 0)
    run.judgement = {isolate::Reason::unreadable_lines, fmt::format("{} lines", loaded.unreadable_lines())};
  run.experiment = loaded.experiment;
  run.model_hash = text_at(*document, "model", "hash");
  run.build = text_at(*document, "build", "");
  run.date = today();
  run.command = "greta analyze --dir " + shell_quoted(directory.string());
  read_controls(*document, run);
  isolate::ExperimentSpec spec = experiment_of(loaded);
  std::map<std::string, isolate::Judgement> judgements = judgements_of(*document, where);
  std::vector<isolate::PromptPair> pairs;
  for (LoadedPair& one : loaded.pairs) {
    if (!one.a || !one.b) fail("{}: prompt {} has one arm only; run isolate again", directory.string(), quote(one.prompt_id));
    isolate::PromptPair pair;
    pair.a = std::move(*one.a);
    pair.b = std::move(*one.b);
    pairs.push_back(std::move(pair));
  }
  std::sort(pairs.begin(), pairs.end(), [](const auto& x, const auto& y) { return x.b.prompt_id < y.b.prompt_id; });
  for (const isolate::PromptPair& pair : pairs) {
    const auto met = judgements.find(pair.b.prompt_id);
    if (met == judgements.end()) fail("{}: no verdict on prompt {}; run isolate again", where, quote(pair.b.prompt_id));
    add_prompt(run, met->second, pair, spec, logits_of(directory, manifest, "a", pair.a.prompt_id),
               logits_of(directory, manifest, "b", pair.b.prompt_id));
  }
  run.identity = isolate::identity_of(pairs, run.experiment);
  return run;
}

}  // namespace greta::cli
