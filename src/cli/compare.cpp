// `greta compare`: two captures, from wherever they come, row by row.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cli/command_line.h"
#include "cli/foreign.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/quote.h"
#include "isolate/judge.h"
#include "report/json.h"
#include "report/log.h"
#include "report/markdown.h"
#include "report/text.h"
#include "report/tsv.h"
#include "trace/run_directory.h"

namespace greta::cli {
namespace {

struct Options {
  std::string a, b, map, out, layers, stages, lang = "both";
  std::vector<std::string> prompts;
  bool json = false;
};

const LoadedPair* find_prompt(const LoadedCaptures& side, const LoadedPair& wanted) {
  const LoadedPair* found = nullptr;
  for (const LoadedPair& pair : side.pairs)
    if (pair.prompt_id == wanted.prompt_id && (found == nullptr || pair.exp == wanted.exp)) found = &pair;
  return found;
}

/// The captures of one prompt of either side that meet: a with a and b with b; where they have no arm in common, the ones they
/// have.
void pair_up(const std::string& id, const LoadedPair* left, const LoadedPair* right, std::vector<isolate::PromptPair>& pairs) {
  const auto add = [&](const std::string& label, const std::optional<Capture>& a, const std::optional<Capture>& b) {
    isolate::PromptPair pair;
    if (a) pair.a = *a;
    if (b) pair.b = *b;
    pair.a.prompt_id = pair.b.prompt_id = label;
    if (a && b && (pair.a.foreign || pair.b.foreign)) unify_layer_counts(pair.a, pair.b);
    pairs.push_back(std::move(pair));
  };
  static const std::optional<Capture> kNone;
  const auto arm = [](const LoadedPair* side, char which) -> const std::optional<Capture>& {
    if (side == nullptr) return kNone;
    return which == 'a' ? side->a : side->b;
  };
  const bool both_a = arm(left, 'a') && arm(right, 'a');
  const bool both_b = arm(left, 'b') && arm(right, 'b');
  if (both_a) add(both_b ? id + ".a" : id, arm(left, 'a'), arm(right, 'a'));
  if (both_b) add(both_a ? id + ".b" : id, arm(left, 'b'), arm(right, 'b'));
  if (!both_a && !both_b)
    add(id, arm(left, 'a') ? arm(left, 'a') : arm(left, 'b'), arm(right, 'a') ? arm(right, 'a') : arm(right, 'b'));
}

std::vector<isolate::PromptPair> match(const LoadedCaptures& left, const LoadedCaptures& right, const Options& options) {
  const auto wanted = [&](const std::string& id) {
    return options.prompts.empty() || std::find(options.prompts.begin(), options.prompts.end(), id) != options.prompts.end();
  };
  std::vector<isolate::PromptPair> pairs;
  if (left.pairs.size() == 1 && right.pairs.size() == 1) {  // one each: theirs may have another name
    pair_up(left.pairs.front().prompt_id, &left.pairs.front(), &right.pairs.front(), pairs);
    return pairs;
  }
  std::set<std::string> met;
  for (const LoadedPair& pair : left.pairs)
    if (wanted(pair.prompt_id) && met.insert(pair.prompt_id).second)
      pair_up(pair.prompt_id, &pair, find_prompt(right, pair), pairs);
  for (const LoadedPair& pair : right.pairs)
    if (wanted(pair.prompt_id) && met.insert(pair.prompt_id).second) pair_up(pair.prompt_id, nullptr, &pair, pairs);
  for (const std::string& prompt : options.prompts)
    if (!met.contains(prompt))
      fail("--prompt {}: neither {} nor {} holds it", quote(prompt), quote(options.a), quote(options.b));
  return pairs;
}

void write_directory(RunDirectory& directory, const isolate::Outcome& outcome, report::Language language) {
  for (const isolate::PromptOutcome& prompt : outcome.prompts)
    directory.write(fmt::format("{}_{}_{}.log", outcome.experiment.id, isolate::name(prompt.exp), prompt.id),
                    report::prompt_log(outcome, prompt));
  directory.write(fmt::format("{}_analysis.txt", outcome.experiment.id), report::tsv(outcome));
  directory.write("verdict.json", report::verdict_json(outcome));
  directory.write("report.md", report::markdown(outcome, language));
  directory.finish();
}

int run(const Options& options, const Program& program) {
  const auto language = report::language_from_name(options.lang);
  if (!language) fail("--lang {} is not known; use es, en or both", quote(options.lang));
  LoadOptions load;
  if (!options.map.empty()) load.jsonl.names = load_name_map(options.map);
  const LoadedCaptures left = load_traces(options.a, load);
  const LoadedCaptures right = load_traces(options.b, load);

  isolate::ExperimentSpec spec = experiment_of(left);
  spec.exp = isolate::ExpMode::aligned;
  spec.title = fmt::format("Comparison of {} and {}", options.a, options.b);
  if (!options.layers.empty()) spec.layers = isolate::LayerSelection::parse(options.layers);
  if (!options.stages.empty()) spec.stages = isolate::parse_stages(options.stages);

  isolate::RunInfo info;
  info.source = isolate::Source::compare;
  info.build = GRETA_VERSION;
  info.date = today();
  info.command = command_line(program.arguments, {"--out"}, {"--json"});
  info.next_base = command_line(program.arguments, {"--layers", "--stages", "--out"}, {"--json"});
  info.unreadable_lines = left.unreadable_lines() + right.unreadable_lines();
  std::optional<RunDirectory> directory;
  if (!options.out.empty()) {
    directory.emplace(RunDirectoryOptions{.out = options.out, .root = {}, .date = info.date, .experiment = spec.id});
    info.run_dir = directory->path().string();
  }

  const isolate::Outcome outcome = isolate::judge(match(left, right, options), spec, info);
  if (directory) write_directory(*directory, outcome, *language);
  fmt::print(stderr, "{}", report::text(outcome));
  if (options.json) fmt::print("{}", report::verdict_json(outcome));
  return outcome.exit_code();
}

}  // namespace

void add_compare(CLI::App& app, Program& program) {
  auto o = std::make_shared<Options>();
  auto* verb = app.add_subcommand("compare", "Compare two captures: run directories, directories of JSONL, or JSONL files");
  verb->add_option("A", o->a, "The reference")->required();
  verb->add_option("B", o->b, "The suspect")->required();
  verb->add_option("--map", o->map, "TOML map of another engine's stage names: [points] \"their name\" = \"our stage\"");
  verb->add_option("--prompt", o->prompts, "Compare this prompt alone (repeatable; default: all of either side)");
  verb->add_option("--layers", o->layers, "all (default), or 0,3,-1");
  verb->add_option("--stages", o->stages, "all (default), post_wo, witnesses, or names: ffn_norm,mlp_out");
  verb->add_option("--out", o->out, "Directory for verdict.json, report.md, table and logs (default: none is written)");
  verb->add_option("--lang", o->lang, "Language of report.md: both (default), es, en");
  verb->add_flag("--json", o->json, "Print verdict.json on stdout");
  verb->callback([o, &program] { program.action = [o, &program] { return run(*o, program); }; });
}

}  // namespace greta::cli
