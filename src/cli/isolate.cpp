// `greta isolate`: runs the two arms of an experiment, finds the first stage at which they differ, judges, reports.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/aligned_run.h"
#include "cli/arm_flags.h"
#include "cli/artifacts.h"
#include "cli/chat_flags.h"
#include "cli/checks.h"
#include "cli/command_line.h"
#include "cli/find_cause.h"
#include "cli/local_judge.h"
#include "cli/paths.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/quote.h"
#include "isolate/judge.h"
#include "report/json.h"
#include "report/markdown.h"
#include "report/text.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string subject;  // EXPERIMENT.toml or MODEL.gguf
  std::string model;
  std::vector<std::string> prompt_files;
  std::optional<std::string> prompt;  // given and empty is an error, not the built-in prompts
  std::string layers, stages, exp, shift, out, lang = "both";
  int span = 0;
  std::int64_t sample = -1, collapse_token = -1;
  std::vector<std::string> faults;
  std::string arm_a, arm_b;
  BareFlags bare;
  ChatFlags chat;
  bool json = false, git_bisect = false, full = false, no_bounds = false;
};

/// Experiment, arms and models, after experiment file, bare flags and arm flags have been merged, in that order.
struct Setup {
  isolate::ExperimentSpec experiment;
  ArmOptions options_a, options_b;
  ArmSpec arm_a, arm_b;
  std::shared_ptr<const Model> model_a, model_b;
  fs::path model_path, model_path_b;
};

/// --chat makes chats of the prompts of the command line; those of an experiment say themselves whether they are.
void choose_chats(const Options& options, isolate::ExperimentSpec& spec) {
  if (options.chat.chat) {
    if (options.prompt_files.empty() && !options.prompt)
      fail("--chat is about --prompt and --prompt-file, and neither is given; in an experiment write chat = true");
    for (isolate::PromptSpec& prompt : spec.prompts) {
      prompt.chat = true;
      prompt.system = options.chat.system;
    }
  }
  options.chat.check(std::any_of(spec.prompts.begin(), spec.prompts.end(), [](const auto& prompt) { return prompt.chat; }));
}

isolate::ExperimentSpec choose_experiment(const Options& options) {
  const bool is_file = options.subject.ends_with(".toml");
  isolate::ExperimentSpec spec = is_file ? isolate::load_experiment(options.subject) : isolate::builtin_experiment();
  if (!options.prompt_files.empty() || options.prompt) spec.prompts.clear();
  for (const std::string& file : options.prompt_files) spec.prompts.push_back(isolate::prompt_from_file(file));
  if (options.prompt) {
    if (options.prompt->empty()) fail("--prompt: the prompt is empty; give it text");
    spec.prompts.push_back({"prompt", *options.prompt, false, false, {}});
  }
  choose_chats(options, spec);
  for (std::size_t i = 0; i < spec.prompts.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (spec.prompts[i].id == spec.prompts[j].id)
        fail("prompt id {} stands twice; a prompt's id is its file's stem: rename one", quote(spec.prompts[i].id));
  if (!options.layers.empty()) spec.layers = isolate::LayerSelection::parse(options.layers);
  if (!options.stages.empty()) spec.stages = isolate::parse_stages(options.stages);
  if (options.span > 0) spec.span = options.span;
  if (options.sample >= 0) spec.sample = options.sample;
  if (options.collapse_token >= 0) spec.collapse_token = options.collapse_token;
  if (!options.exp.empty()) {
    const auto mode = isolate::exp_mode_from_name(options.exp);
    if (!mode) fail("--exp {} is not known; use E0 (as_designed) or E1 (aligned)", quote(options.exp));
    spec.exp = *mode;
  }
  if (!options.shift.empty()) spec.shift = isolate::ContextShift::parse(options.shift);
  if (spec.shift && spec.exp != isolate::ExpMode::aligned)
    fail("--shift {} goes with mode E1 (aligned): mode E0 compares no rows after a shift", spec.shift->text());
  return spec;
}

ArmOptions arm_options(const std::map<std::string, std::string>& from_experiment, const std::string& experiment_id,
                       const ArmOptions& bare, const char* flag, const std::string& text) {
  ArmOptions options;
  for (const auto& [key, value] : from_experiment) options.set("experiment " + experiment_id, key, value);
  options.merge(bare);
  ArmOptions own;
  own.parse(flag, text);
  options.merge(own);
  return options;
}

Setup set_up(const Options& options) {
  Setup setup;
  setup.experiment = choose_experiment(options);
  const ArmOptions bare = options.bare.options();
  setup.options_a = arm_options(setup.experiment.arm_a, setup.experiment.id, bare, "--arm-a", options.arm_a);
  setup.options_b = arm_options(setup.experiment.arm_b, setup.experiment.id, bare, "--arm-b", options.arm_b);
  setup.options_b.faults.insert(setup.options_b.faults.end(), options.faults.begin(), options.faults.end());
  setup.arm_a = setup.options_a.resolve();
  setup.arm_b = setup.options_b.resolve();

  const bool subject_is_model = !options.subject.empty() && !options.subject.ends_with(".toml");
  if (subject_is_model && !options.model.empty())
    fail("two models are given, {} and --model {}; give one", quote(options.subject), quote(options.model));
  const std::string both = subject_is_model ? options.subject : options.model;
  const auto path_of = [&](const std::string& own) {
    return own.empty() ? (both.empty() ? demo_model() : fs::path(both)) : fs::path(own);
  };
  setup.model_path = path_of(setup.options_a.model);
  setup.model_a = Model::load(setup.model_path);
  const fs::path path_b = path_of(setup.options_b.model);
  setup.model_path_b = path_b;
  setup.model_b = path_b == setup.model_path ? setup.model_a : Model::load(path_b);
  if (setup.model_a->config.n_layers != setup.model_b->config.n_layers ||
      setup.model_a->config.vocab_size != setup.model_b->config.vocab_size)
    fail("arms of {} layers, vocabulary {} and {} layers, vocabulary {} have no common stages; use models of one shape",
         setup.model_a->config.n_layers, setup.model_a->config.vocab_size, setup.model_b->config.n_layers,
         setup.model_b->config.vocab_size);
  check_kv_type(setup.arm_a.plan.kv, setup.model_a->config.head_dim);
  check_kv_type(setup.arm_b.plan.kv, setup.model_b->config.head_dim);
  (void)setup.experiment.layers.resolve(setup.model_a->config.n_layers);
  check_faults(setup.arm_a, *setup.model_a);  // before a directory is made or anything is computed
  check_faults(setup.arm_b, *setup.model_b);
  return setup;
}

struct TokenizedPrompt {
  std::string id;
  std::vector<std::int32_t> tokens;
  std::int32_t cut_from = 0;
};

/// `chats` is made for the first prompt that is a chat.
TokenizedPrompt tokenize(const isolate::PromptSpec& prompt, const Model& model, int span, const ChatFlags& flags,
                         std::optional<ChatEncoder>& chats) {
  if (prompt.chat && !chats) chats.emplace(*model.file, *model.tokenizer, flags);
  TokenizedPrompt out{prompt.id, {}, 0};
  out.tokens = prompt.chat ? chats->encode(prompt.text, prompt.system) : model.tokenizer->encode(prompt.text, true, true);
  if (out.tokens.empty()) fail("prompt {}: gives no tokens; write a text", quote(prompt.id));
  const int room = model.config.context_length - span;
  const auto n = static_cast<std::int32_t>(out.tokens.size());
  if (n <= room) return out;
  if (!prompt.built_in || room < 2)
    fail("prompt {}: {} tokens and a span of {} do not fit the model's context of {}; shorten it or use a smaller --span",
         quote(prompt.id), n, span, model.config.context_length);
  out.cut_from = n;
  out.tokens.resize(static_cast<std::size_t>(room));
  return out;
}

/// All prompts of the experiment. A built-in one that is too short for its context shift is left out, which is noted.
std::vector<TokenizedPrompt> tokenize_all(const isolate::ExperimentSpec& experiment, const Model& model, const ChatFlags& flags,
                                          std::vector<std::string>& notes) {
  std::vector<TokenizedPrompt> prompts;
  std::optional<ChatEncoder> chats;
  for (const auto& prompt : experiment.prompts) {
    TokenizedPrompt one = tokenize(prompt, model, experiment.span, flags, chats);
    if (experiment.shift && prompt.built_in &&
        static_cast<std::int64_t>(one.tokens.size()) < experiment.shift->fewest_tokens()) {
      notes.push_back(fmt::format("prompt {}: left out, its {} tokens are too few for a context shift of {}", one.id,
                                  one.tokens.size(), experiment.shift->text()));
      continue;
    }
    prompts.push_back(std::move(one));
  }
  if (prompts.empty() && experiment.shift)
    fail("context shift {}: every built-in prompt is too short; give a longer one", experiment.shift->text());
  return prompts;
}

isolate::RunInfo run_info(const Setup& setup, const Program& program, const std::string& run_dir) {
  isolate::RunInfo info;
  info.source = isolate::Source::isolate;
  info.a = setup.options_a.declared(setup.arm_a);
  info.b = setup.options_b.declared(setup.arm_b);
  info.a.build = info.b.build = GRETA_VERSION;
  info.model_path = setup.model_path.string();
  info.model_hash = fmt::format("{:016x}", setup.model_a->file->content_hash());
  info.build = GRETA_VERSION;
  info.weights_differ = setup.model_a->file->content_hash() != setup.model_b->file->content_hash();
  info.date = today();
  info.inspect_command = "greta models info " + shell_quoted(info.model_path);
  info.command = command_line(program.arguments, {"--out"}, {"--json"});
  info.analyze_command = fmt::format("greta analyze --dir {} --out {}", shell_quoted(run_dir),
                                     shell_quoted(setup.experiment.id + "_analysis.txt"));
  info.next_base = command_line(program.arguments, {"--layers", "--stages", "--plan", "--out"}, {"--json", "--git-bisect"});
  info.next_builtin = "greta isolate --model " + shell_quoted(info.model_path);
  info.run_dir = run_dir;
  return info;
}

int run(const Options& options, const Program& program) {
  const auto language = report::language_from_name(options.lang);
  if (!language) fail("--lang {} is not known; use es, en or both", quote(options.lang));
  const Setup setup = set_up(options);
  const isolate::ExperimentSpec& experiment = setup.experiment;
  std::vector<std::string> notes;
  const std::vector<TokenizedPrompt> prompts = tokenize_all(experiment, *setup.model_a, options.chat, notes);

  RunArtifacts artifacts(options.out, experiment.id, today());  // refuses a directory in use before anything is computed
  WeightHashes weights;
  const RunContext context{*setup.model_a, *setup.model_b, setup.arm_a, setup.arm_b, experiment, weights, options.full};
  const bool terminal = isatty(STDERR_FILENO) == 1;
  std::vector<std::unique_ptr<AlignedRun>> runs;
  std::vector<isolate::PromptPair> pairs;
  isolate::RunInfo info = run_info(setup, program, artifacts.final_path().string());
  info.notes = std::move(notes);
  std::vector<std::int64_t> effects_a(setup.arm_a.faults.size()), effects_b(setup.arm_b.faults.size());
  for (const TokenizedPrompt& prompt : prompts) {
    if (terminal)
      fmt::print(stderr, "\r\033[K[{}/{}] {}: {} tokens, both arms", runs.size() + 1, prompts.size(), prompt.id,
                 prompt.tokens.size());
    runs.push_back(std::make_unique<AlignedRun>(context, prompt.id, prompt.tokens));
    pairs.push_back(runs.back()->run());
    pairs.back().cut_from = prompt.cut_from;
    add_counts(effects_a, runs.back()->effects_a());
    add_counts(effects_b, runs.back()->effects_b());
    if (prompt.cut_from > 0)
      info.notes.push_back(fmt::format("prompt {}: cut from {} to {} tokens to fit the context of {} with a span of {}",
                                       prompt.id, prompt.cut_from, prompt.tokens.size(), setup.model_a->config.context_length,
                                       experiment.span));
    if (experiment.shift)
      info.notes.push_back(
          fmt::format("prompt {}: context shift after {} of {} tokens: kept {}, discarded {}; rows from position {} on are "
                      "compared, and every KV slot",
                      prompt.id, runs.back()->shifted_after(), prompt.tokens.size(), experiment.shift->keep,
                      experiment.shift->discard, runs.back()->first_row()));
    if (runs.back()->span_differs() > 0)
      info.notes.push_back(
          fmt::format("prompt {}: arm A computed {} rows of the prompt otherwise in the longer prefill of the span", prompt.id,
                      runs.back()->span_differs()));
  }
  if (terminal) fmt::print(stderr, "\r\033[K");
  refuse_idle_faults(setup.arm_a, effects_a, "arm A: ");
  refuse_idle_faults(setup.arm_b, effects_b, "arm B: ");

  std::size_t n_controls = 0;
  const auto control = [&](const isolate::ControlSpec& spec) {
    if (terminal) fmt::print(stderr, "\r\033[Kcontrol {}: {} at layer {}", ++n_controls, name(spec.stage), spec.layer);
    for (std::size_t i = 0; i < runs.size(); ++i)
      if (prompts[i].id == spec.prompt_id) return runs[i]->control(spec);
    fail("internal error: control for an unknown prompt {}", quote(spec.prompt_id));
  };
  const auto local = [&](const std::string& id) -> std::optional<isolate::LocalPair> {
    for (std::size_t p = 0; p < runs.size() && !options.no_bounds; ++p) {
      if (prompts[p].id != id) continue;
      return judge_locally(*runs[p], context, [&](int done, int all) {
        if (terminal) fmt::print(stderr, "\r\033[K{}: every op against its rounding bound, layer {} of {}", id, done, all);
      });
    }
    return std::nullopt;
  };
  FoundCause found;
  isolate::Outcome outcome = isolate::judge(pairs, experiment, info, control, isolate::difference, local);
  if (outcome.verdict() == isolate::Verdict::diverged && !options.no_bounds) {
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
  auto o = std::make_shared<Options>();
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
                   "Arm A: key=value,... (model backend device plan route.<op> kv chunk batch threads isa fault)");
  verb->add_option("--arm-b", o->arm_b, "Arm B");
  o->bare.add_to(*verb);
  verb->add_option("--out", o->out, "Run directory (default artifacts/alignment/<date>/<experiment>[-N])");
  verb->add_option("--lang", o->lang, "Language of report.md: both (default), es, en");
  verb->add_flag("--trace-full", o->full, "Also write every recorded row whole, as safetensors, below captures/");
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
