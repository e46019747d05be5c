#include "cli/isolate_run.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "cli/command_line.h"
#include "cli/local_control.h"
#include "cli/local_judge.h"
#include "cli/paths.h"
#include "cli/repeat_check.h"
#include "core/error.h"
#include "core/quote.h"
#include "isolate/judge.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;

/// Where figures are taken over all rows: at most some 300 MB.
constexpr std::size_t kRowsForFigures = 16384;

/// --chat makes chats of the prompts of the command line; those of an experiment say themselves whether they are.
void choose_chats(const IsolateOptions& options, isolate::ExperimentSpec& spec) {
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

isolate::ExperimentSpec choose_experiment(const IsolateOptions& options) {
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
  options.merge(parsed_arm(flag, text));
  return options;
}

/// Arms of one model in other weights meet row by row; those of two models do not.
void refuse_unlike(const Model& a, const Model& b) {
  const auto refuse = [&](std::string_view what, const auto& of_a, const auto& of_b) {
    fail("arms of two models: {} has {} {}, {} has {}; use one model, in other weights if need be", a.file->path().string(),
         what, of_a, b.file->path().string(), of_b);
  };
  if (a.config.architecture != b.config.architecture)
    refuse("architecture", quote(a.config.architecture, 24), quote(b.config.architecture, 24));
  const std::pair<const char*, int ModelConfig::*> extents[]{
      {"n_layers", &ModelConfig::n_layers}, {"vocab_size", &ModelConfig::vocab_size}, {"d_model", &ModelConfig::d_model},
      {"n_heads", &ModelConfig::n_heads},   {"n_kv_heads", &ModelConfig::n_kv_heads}, {"head_dim", &ModelConfig::head_dim},
      {"d_ff", &ModelConfig::d_ff}};
  for (const auto& [what, extent] : extents)
    if (a.config.*extent != b.config.*extent) refuse(what, a.config.*extent, b.config.*extent);
  if (vocabulary_hash(*a.file) != vocabulary_hash(*b.file))
    fail(
        "arms of two tokenisers: {} and {} have other tokens, so a token id is not the same text in both; use one model, in "
        "other weights if need be",
        a.file->path().string(), b.file->path().string());
}

Setup set_up(const IsolateOptions& options) {
  Setup setup;
  setup.experiment = choose_experiment(options);
  const ArmOptions bare = options.bare.options();
  setup.options_a = arm_options(setup.experiment.arm_a, setup.experiment.id, bare, "--arm-a", options.arm_a);
  setup.options_b = arm_options(setup.experiment.arm_b, setup.experiment.id, bare, "--arm-b", options.arm_b);
  setup.options_b.faults.insert(setup.options_b.faults.end(), options.faults.begin(), options.faults.end());
  setup.plan_fixed = !parsed_arm("--arm-b", options.arm_b).plan.empty();
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
  refuse_unlike(*setup.model_a, *setup.model_b);
  check_kv_type(setup.arm_a.plan.kv, setup.model_a->config.head_dim);
  check_kv_type(setup.arm_b.plan.kv, setup.model_b->config.head_dim);
  (void)setup.experiment.layers.resolve(setup.model_a->config.n_layers);
  check_faults(setup.arm_a, *setup.model_a);  // before a directory is made or anything is computed
  check_faults(setup.arm_b, *setup.model_b);
  return setup;
}

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
  info.next_base = command_line(program.arguments, {"--layers", "--stages", "--out"}, {"--json", "--git-bisect"});
  info.plan_fixed = setup.plan_fixed;
  info.next_other_plan =
      command_line(program.arguments, {"--layers", "--stages", "--plan", "--out"}, {"--json", "--git-bisect"});
  info.next_builtin = "greta isolate --model " + shell_quoted(info.model_path);
  info.run_dir = run_dir;
  return info;
}

}  // namespace

IsolateRun::IsolateRun(const IsolateOptions& options)
    : options_(options),
      setup_(set_up(options)),
      prompts_(tokenize_all(setup_.experiment, *setup_.model_a, options.chat, notes_)),
      context_{.model_a = *setup_.model_a,
               .model_b = *setup_.model_b,
               .arm_a = setup_.arm_a,
               .arm_b = setup_.arm_b,
               .experiment = setup_.experiment,
               .weights = weights_,
               .full = options.full,
               .whole_logits = options.for_figures,
               .detailed_rows = options.for_figures ? kRowsForFigures : kDetailedRows},
      terminal_(isatty(STDERR_FILENO) == 1) {}

void IsolateRun::note(const TokenizedPrompt& prompt, const AlignedRun& run) {
  if (prompt.cut_from > 0)
    info_.notes.push_back(fmt::format("prompt {}: cut from {} to {} tokens to fit the context of {} with a span of {}",
                                      prompt.id, prompt.cut_from, prompt.tokens.size(), setup_.model_a->config.context_length,
                                      setup_.experiment.span));
  if (setup_.experiment.shift)
    info_.notes.push_back(
        fmt::format("prompt {}: context shift after {} of {} tokens: kept {}, discarded {}; rows from position {} on are "
                    "compared, and every KV slot",
                    prompt.id, run.shifted_after(), prompt.tokens.size(), setup_.experiment.shift->keep,
                    setup_.experiment.shift->discard, run.first_row()));
  if (run.span_differs() > 0)
    info_.notes.push_back(
        fmt::format("prompt {}: arm A computed {} rows of the prompt otherwise in the longer prefill of the span", prompt.id,
                    run.span_differs()));
}

/// A race that was won in the pair's runs and lost in a repeat has had its effect.
void IsolateRun::repeat_arms(std::vector<std::int64_t>& effects_a, std::vector<std::int64_t>& effects_b) {
  isolate::PromptPair& pair = pairs_.back();
  Repeats repeated = repeat_check(context_, pair, options_.repeats);
  pair.unstable = std::move(repeated.unstable);
  pair.a.fault_effects += std::accumulate(repeated.effects_a.begin(), repeated.effects_a.end(), std::int64_t{0});
  pair.b.fault_effects += std::accumulate(repeated.effects_b.begin(), repeated.effects_b.end(), std::int64_t{0});
  add_counts(effects_a, repeated.effects_a);
  add_counts(effects_b, repeated.effects_b);
}

void IsolateRun::run_prompts(const Program& program, const std::string& run_dir) {
  info_ = run_info(setup_, program, run_dir);
  info_.notes = std::move(notes_);
  std::vector<std::int64_t> effects_a(setup_.arm_a.faults.size()), effects_b(setup_.arm_b.faults.size());
  for (const TokenizedPrompt& prompt : prompts_) {
    if (terminal_)
      fmt::print(stderr, "\r\033[K[{}/{}] {}: {} tokens, both arms", runs_.size() + 1, prompts_.size(), prompt.id,
                 prompt.tokens.size());
    runs_.push_back(std::make_unique<AlignedRun>(context_, prompt.id, prompt.tokens));
    pairs_.push_back(runs_.back()->run());
    pairs_.back().cut_from = prompt.cut_from;
    add_counts(effects_a, runs_.back()->effects_a());
    add_counts(effects_b, runs_.back()->effects_b());
    repeat_arms(effects_a, effects_b);
    note(prompt, *runs_.back());
  }
  if (terminal_) fmt::print(stderr, "\r\033[K");
  refuse_idle_faults(setup_.arm_a, effects_a, "arm A: ");
  refuse_idle_faults(setup_.arm_b, effects_b, "arm B: ");
}

isolate::Outcome IsolateRun::judge() {
  std::size_t n_controls = 0;
  const auto control = [&](const isolate::ControlSpec& spec) {
    if (terminal_) fmt::print(stderr, "\r\033[Kcontrol {}: {} at layer {}", ++n_controls, name(spec.stage), spec.layer);
    for (std::size_t i = 0; i < runs_.size(); ++i)
      if (prompts_[i].id == spec.prompt_id) return runs_[i]->control(spec);
    fail("internal error: control for an unknown prompt {}", quote(spec.prompt_id));
  };
  const auto local_control = [&](const isolate::ControlSpec& spec) -> std::optional<isolate::LocalControl> {
    if (terminal_) fmt::print(stderr, "\r\033[Kcontrol {}: {} at layer {}", ++n_controls, name(spec.stage), spec.layer);
    for (std::size_t i = 0; i < runs_.size(); ++i)
      if (prompts_[i].id == spec.prompt_id) return control_locally(*runs_[i], context_, spec);
    fail("internal error: control for an unknown prompt {}", quote(spec.prompt_id));
  };
  const auto local = [&](const std::string& id) -> std::optional<isolate::LocalPair> {
    for (std::size_t p = 0; p < runs_.size() && !options_.no_bounds; ++p) {
      if (prompts_[p].id != id) continue;
      return judge_locally(*runs_[p], context_, [&](int done, int all) {
        if (terminal_) fmt::print(stderr, "\r\033[K{}: every op against its rounding bound, layer {} of {}", id, done, all);
      });
    }
    return std::nullopt;
  };
  return isolate::judge(pairs_, setup_.experiment, info_, control, isolate::difference, local, local_control);
}

}  // namespace greta::cli
