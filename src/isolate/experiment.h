// The experiment: what is run, recorded and judged. Read from TOML; the built-in one is experiments/b3_41_post_wo.toml.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/stage.h"

namespace greta::isolate {

/// Not bit-equal and above either: DIVERGED. Both are pure numbers: MAE over the slice, relative RMS of the whole row.
struct Thresholds {
  double mae = 1e-6;
  double rel = 1e-6;
};

/// E0 `as_designed`: decode0 is the first generated token; measured, never judged.
/// E1 `aligned`: decode0 computes prefill_last's row.
enum class ExpMode : std::uint8_t { as_designed, aligned };
/// "E0", "E1".
std::string_view name(ExpMode mode);
/// Accepts E0, E1, as_designed, aligned in any case; nullopt for anything else.
std::optional<ExpMode> exp_mode_from_name(std::string_view name);
/// The alignment flags that are on: {"token", "position", "history", "routes"} for E1, none for E0.
std::vector<std::string> alignment_flags(ExpMode mode);

struct PromptSpec {
  std::string id;                     // file names and table rows; [A-Za-z0-9_.-]+
  std::string text;                   // UTF-8; chat markers are special tokens where the vocabulary has them
  bool built_in = false;              // may be cut to the context; a user's own prompt may not
  bool chat = false;                  // `text` is a user's turn, to be written as the model's chat template says
  std::optional<std::string> system;  // of a chat: the system turn
};

/// "all", or layer numbers of which negative ones count from the end (-1 = the last).
struct LayerSelection {
  bool all = true;
  std::vector<int> layers;
  /// "all" or "0,3,-1". Throws Error naming the text that is no layer.
  static LayerSelection parse(std::string_view text);
  std::string text() const;
  /// Sorted, distinct layer numbers. Throws Error for a layer outside -n_layers..n_layers-1.
  std::vector<int> resolve(int n_layers) const;
  bool holds(int layer, int n_layers) const;
};

/// A context shift before the compared rows: both arms prefill the prompt's first half, keep its first `keep` positions,
/// discard the next `discard` and shift the rest down; then arm A prefills the rows that remain, and arm B decodes them one by
/// one.
struct ContextShift {
  int keep = 0;
  int discard = 0;
  /// "KEEP:DISCARD". Throws Error.
  static ContextShift parse(std::string_view text);
  std::string text() const;
  /// Of a prompt: one position is left to shift, and one row comes after it.
  std::int64_t fewest_tokens() const { return std::int64_t{keep} + discard + 2; }
};

struct ExperimentSpec {
  std::string id = "b3_41";
  std::string title;
  ExpMode exp = ExpMode::aligned;
  std::vector<PromptSpec> prompts;
  LayerSelection layers;
  std::vector<Stage> stages;  // empty: all
  std::int64_t sample = 1024;
  int span = 1;                       // decoded tokens that are compared, decode0 included
  std::optional<ContextShift> shift;  // E1 only
  Thresholds thresholds;
  std::optional<std::int64_t> collapse_token;       // else the attractor found, else 96965
  std::uint64_t seed = 41;                          // of the controls' places
  std::map<std::string, std::string> arm_a, arm_b;  // keys as on the command line: model backend device plan route.<op> kv ...

  bool wants(Stage stage) const;
};

/// Parses a TOML experiment. `where` names it in errors; files named in it are relative to `directory`.
/// Throws Error: syntax (line and column), an unknown key (naming the nearest known one), an unknown stage, a bad value.
ExperimentSpec parse_experiment(std::string_view toml, std::string_view where, const std::filesystem::path& directory);
ExperimentSpec load_experiment(const std::filesystem::path& file);
/// experiments/b3_41_post_wo.toml as it was when the binary was built.
const ExperimentSpec& builtin_experiment();
std::string_view builtin_experiment_toml();
/// A user's own prompt file: the id is the file's stem, the text its bytes. Throws Error: unreadable, empty, invalid UTF-8.
PromptSpec prompt_from_file(const std::filesystem::path& file);
/// "ffn_norm,mlp_out", "post_wo", "witnesses", "all" (empty vector). Throws Error naming the nearest known stage.
std::vector<Stage> parse_stages(std::string_view text);

}  // namespace greta::isolate
