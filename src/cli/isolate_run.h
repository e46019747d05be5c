// One experiment on its way to a verdict: set up, both arms run over every prompt, judged. `isolate` and `gate` share it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "cli/aligned_run.h"
#include "cli/arm_flags.h"
#include "cli/chat_flags.h"
#include "cli/verbs.h"
#include "isolate/outcome.h"

namespace greta::cli {

/// What `greta isolate` is asked for.
struct IsolateOptions {
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
  bool for_figures = false;  // whole logits, and more rows in detail, are kept in memory
  int repeats = 1;           // of arms on a GPU, with another timing
  bool json = false, git_bisect = false, full = false, no_bounds = false;
};

/// Experiment, arms and models, after experiment file, bare flags and arm flags have been merged, in that order.
struct Setup {
  isolate::ExperimentSpec experiment;
  ArmOptions options_a, options_b;
  ArmSpec arm_a, arm_b;
  bool plan_fixed = false;  // --arm-b names its plan
  std::shared_ptr<const Model> model_a, model_b;
  std::filesystem::path model_path, model_path_b;
};

struct TokenizedPrompt {
  std::string id;
  std::vector<std::int32_t> tokens;
  std::int32_t cut_from = 0;
};

/// Runs and their context refer to each other, so it stays where it was made.
class IsolateRun {
 public:
  /// Reads experiment, models and prompts. Throws Error before anything is computed.
  explicit IsolateRun(const IsolateOptions& options);
  IsolateRun(const IsolateRun&) = delete;
  IsolateRun& operator=(const IsolateRun&) = delete;

  /// Both arms over every prompt. `run_dir` is where artefacts will lie; empty: none. Throws Error where a fault changed
  /// nothing.
  void run_prompts(const Program& program, const std::string& run_dir);
  /// Verdict over what was run, with controls; and local error, unless the options leave it out.
  isolate::Outcome judge();

  const Setup& setup() const { return setup_; }
  const std::vector<TokenizedPrompt>& prompts() const { return prompts_; }
  const RunContext& context() const { return context_; }
  /// By prompt, in one order.
  const std::vector<std::unique_ptr<AlignedRun>>& runs() const { return runs_; }
  const std::vector<isolate::PromptPair>& pairs() const { return pairs_; }
  bool terminal() const { return terminal_; }  // progress is shown on stderr

 private:
  void note(const TokenizedPrompt& prompt, const AlignedRun& run);
  void repeat_arms(std::vector<std::int64_t>& effects_a, std::vector<std::int64_t>& effects_b);

  const IsolateOptions& options_;
  Setup setup_;
  std::vector<std::string> notes_;
  std::vector<TokenizedPrompt> prompts_;
  WeightHashes weights_;
  RunContext context_;
  bool terminal_;
  std::vector<std::unique_ptr<AlignedRun>> runs_;
  std::vector<isolate::PromptPair> pairs_;
  isolate::RunInfo info_;
};

}  // namespace greta::cli
