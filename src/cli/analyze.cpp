// `greta analyze`: the table and the verdict again, from JSONL alone.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <memory>
#include <string>

#include "cli/checks.h"
#include "cli/command_line.h"
#include "cli/foreign.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "isolate/judge.h"
#include "report/json.h"
#include "report/text.h"
#include "report/tsv.h"
#include "trace/file_io.h"

namespace greta::cli {
namespace {

struct Options {
  std::string dir, out, layers, stages, map;
  std::int64_t collapse_token = -1;
  bool json = false;
};

isolate::PromptPair to_pair(LoadedPair& loaded) {
  isolate::PromptPair pair;
  if (loaded.a) pair.a = std::move(*loaded.a);
  if (loaded.b) pair.b = std::move(*loaded.b);
  pair.a.prompt_id = pair.b.prompt_id = loaded.prompt_id;
  if (loaded.a && loaded.b && (pair.a.foreign || pair.b.foreign)) unify_layer_counts(pair.a, pair.b);
  return pair;
}

int run(const Options& options, const Program& program) {
  LoadOptions load;
  load.stores = false;
  if (!options.map.empty()) load.jsonl.names = load_name_map(options.map);
  LoadedCaptures loaded = load_traces(options.dir, load);

  isolate::ExperimentSpec spec = experiment_of(loaded);
  const bool as_designed = !loaded.pairs.empty() && std::all_of(loaded.pairs.begin(), loaded.pairs.end(),
                                                                [](const LoadedPair& pair) { return pair.exp == "E0"; });
  spec.exp = as_designed ? isolate::ExpMode::as_designed : isolate::ExpMode::aligned;
  if (loaded.verified) apply_settings_of_run(options.dir, spec);
  if (!options.layers.empty()) spec.layers = isolate::LayerSelection::parse(options.layers);
  if (!options.stages.empty()) spec.stages = isolate::parse_stages(options.stages);
  if (options.collapse_token >= 0) spec.collapse_token = options.collapse_token;

  isolate::RunInfo info;
  info.source = isolate::Source::analyze;
  info.build = GRETA_VERSION;
  info.date = today();
  info.command = command_line(program.arguments, {}, {});
  info.next_base = command_line(program.arguments, {"--layers", "--stages"}, {"--json"});
  info.unreadable_lines = loaded.unreadable_lines();
  std::vector<isolate::PromptPair> pairs;
  for (LoadedPair& pair : loaded.pairs) pairs.push_back(to_pair(pair));

  // Of the whole run: with other layers or stages it would not be what was judged.
  const bool whole = loaded.verified && options.layers.empty() && options.stages.empty();
  const RecordedRun recorded = whole ? recorded_run(options.dir) : RecordedRun{};
  info.weights_differ = recorded.weights_differ;
  const auto local = [&](const std::string& id) -> std::optional<isolate::LocalPair> {
    const auto found = recorded.local.find(id);
    return found == recorded.local.end() ? std::nullopt : std::optional(found->second);
  };
  const isolate::Outcome outcome = isolate::judge(pairs, spec, info, {}, isolate::difference, local);
  if (!options.out.empty()) atomic_write_file(options.out, report::tsv(outcome));
  fmt::print(stderr, "{}", report::text(outcome));
  if (options.json) {
    fmt::print("{}", report::verdict_json(outcome));
  } else if (options.out.empty()) {
    fmt::print("{}", report::tsv(outcome));
  }
  return outcome.exit_code();
}

}  // namespace

void add_analyze(CLI::App& app, Program& program) {
  auto o = std::make_shared<Options>();
  auto* verb =
      app.add_subcommand("analyze", "Rebuild the table and the verdict from the JSONL of a run, ours or another engine's");
  verb->add_option("--dir", o->dir, "Run directory, directory of *.jsonl, or one JSONL file")->required();
  verb->add_option("--out", o->out, "File for the table (default: stdout)");
  verb->add_option("--collapse-token", o->collapse_token, "Token id of the collapse column")->check(at_least(0));
  verb->add_option("--layers", o->layers, "all (default), or 0,3,-1");
  verb->add_option("--stages", o->stages, "all (default), post_wo, witnesses, or names: ffn_norm,mlp_out");
  verb->add_option("--map", o->map, "TOML map of another engine's stage names");
  verb->add_flag("--json", o->json, "Print verdict.json on stdout");
  verb->callback([o, &program] { program.action = [o, &program] { return run(*o, program); }; });
}

}  // namespace greta::cli
