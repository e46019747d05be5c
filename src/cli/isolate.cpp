// `greta isolate`: runs the two arms of an experiment, finds the first stage at which they differ, judges, reports.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "cli/artifacts.h"
#include "cli/checks.h"
#include "cli/command_line.h"
#include "cli/find_cause.h"
#include "cli/isolate_run.h"
#include "cli/two_builds.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/quote.h"
#include "report/json.h"
#include "report/markdown.h"
#include "report/text.h"

namespace greta::cli {
namespace {

int run(const IsolateOptions& options, const Program& program) {
  const auto language = report::language_from_name(options.lang);
  if (!language) fail("--lang {} is not known; use es, en or both", quote(options.lang));
  if (names_a_build(options)) return isolate_two_builds(options, program);
  IsolateRun isolation(options);
  const Setup& setup = isolation.setup();
  RunArtifacts artifacts(options.out, setup.experiment.id, today());  // refuses a directory in use before anything is computed
  isolation.run_prompts(program, artifacts.final_path().string());
  const auto& runs = isolation.runs();
  const auto& pairs = isolation.pairs();
  const RunContext& context = isolation.context();
  const bool terminal = isolation.terminal();
  isolate::Outcome outcome = isolation.judge();
  FoundCause found;
  if (outcome.verdict() == isolate::Verdict::diverged && outcome.judgement.reason != isolate::Reason::nondeterministic &&
      !options.no_bounds) {
    if (terminal) fmt::print(stderr, "\r\033[Ksearching the cause");
    constexpr std::size_t kMostPrompts = 3;
    std::vector<DivergedPrompt> diverged;
    for (std::size_t i = 0; i < outcome.prompts.size() && diverged.size() < kMostPrompts; ++i)
      if (outcome.prompts[i].judgement.verdict() == isolate::Verdict::diverged && outcome.prompts[i].first)
        diverged.push_back({outcome.prompts[i], pairs[i], *runs[i]});
    found = find_cause(std::move(diverged), context);
    outcome.cause = found.cause;
  }
  if (terminal) fmt::print(stderr, "\r\033[K");

  artifacts.write(outcome, pairs, *language);
  if (options.full)
    for (std::size_t i = 0; i < runs.size(); ++i) artifacts.write_full(pairs[i], *runs[i], setup.model_a->config);
  artifacts.write_scenes(found.scenes, *setup.model_a, setup.model_path.string(), *setup.model_b, setup.model_path_b.string());
  artifacts.commit();
  fmt::print(stderr, "{}", report::text(outcome));
  if (options.json) fmt::print("{}", report::verdict_json(outcome));
  return options.git_bisect ? isolate::git_bisect_code(outcome.verdict()) : outcome.exit_code();
}

}  // namespace

void add_isolate(CLI::App& app, Program& program) {
  auto o = std::make_shared<IsolateOptions>();
  auto* verb = app.add_subcommand("isolate", "Find the first stage at which two execution paths of a model differ");
  verb->add_option("subject", o->subject, "EXPERIMENT.toml or MODEL.gguf (default: the demo model, experiment b3_41_post_wo)");
  verb->add_option("--model", o->model, "Model (GGUF)");
  verb->add_option("--prompt-file", o->prompt_files, "Prompt file, UTF-8; its id is the file's stem (repeatable)");
  verb->add_option("--prompt", o->prompt, "A prompt's text");
  o->chat.add_to(*verb);
  verb->add_option("--layers", o->layers, "all (default), or 0,3,-1");
  verb->add_option("--stages", o->stages, "all (default), post_wo, witnesses, or names: ffn_norm,mlp_out");
  verb->add_option("--span", o->span, "Decoded tokens that are compared, decode0 included (default 1)")
      ->check(CLI::Range(1, 4096));
  verb->add_option("--shift", o->shift, "KEEP:DISCARD: compare the rows after a context shift in the middle of the prompt");
  verb->add_option("--exp", o->exp, "E1 (aligned, default) or E0 (as_designed: measured, never judged)");
  verb->add_option("--sample", o->sample, "Elements of a row's slice (default 1024)")->check(CLI::Range(1, 1 << 20));
  verb->add_option("--collapse-token", o->collapse_token, "Token id of the collapse column")->check(at_least(0));
  verb->add_option("--fault", o->faults, "Plant a fault in arm B (greta faults lists them; repeatable)");
  verb->add_option("--arm-a", o->arm_a,
                   "Arm A: key=value,... (model binary backend device plan route.<op> kv chunk batch threads isa fault)");
  verb->add_option("--arm-b", o->arm_b, "Arm B");
  o->bare.add_to(*verb);
  verb->add_option("--out", o->out, "Run directory (default artifacts/alignment/<date>/<experiment>[-N])");
  verb->add_option("--lang", o->lang, "Language of report.md: both (default), es, en");
  verb->add_flag("--trace-full", o->full, "Also write every recorded row whole, as safetensors, below captures/");
  verb->add_option("--repeats", o->repeats, "Runs of an arm on a GPU with another timing, to tell races from drift (default 1)")
      ->check(CLI::Range(0, 1000));
  verb->add_flag("--no-bounds", o->no_bounds,
                 "Judge by the thresholds alone and search no cause: quick, but healthy arms on different routes are blamed");
  verb->add_flag("--json", o->json, "Print verdict.json on stdout");
  verb->add_flag("--git-bisect", o->git_bisect,
                 "Exit codes for `git bisect run`: 0 agree, 1 diverged, 125 cannot tell, 128 misuse");
  verb->callback([o, &program] {
    program.action = [o, &program] {
      if (!o->git_bisect) return run(*o, program);
      try {
        return run(*o, program);
      } catch (const Error& error) {
        fmt::print(stderr, "greta: error: {}\n", error.what());
        return 128;
      }
    };
  });
}

}  // namespace greta::cli
