// What `greta gate` is asked: which comparison, which baseline, which thresholds. Read from TOML (docs/gate.md).
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "isolate/verdict.h"

namespace greta::isolate {

/// Figures of a prompt that can be held to a limit (isolate/figures.h).
enum class Figure : std::uint8_t { p99, max, top1_agreement, kl, kl_max };
inline constexpr std::array<Figure, 5> kFigures = {Figure::p99, Figure::max, Figure::top1_agreement, Figure::kl,
                                                   Figure::kl_max};
/// "p99", "max", "top1_agreement", "kl", "kl_max".
std::string_view name(Figure figure);
/// top1_agreement: more is better, a limit is the least that passes. All others: the most that passes.
constexpr bool is_least(Figure figure) { return figure == Figure::top1_agreement; }

struct Limit {
  Figure figure = Figure::max;
  bool of_baseline = false;  // `value` times the baseline's figure of the same prompt
  double value = 0;
};

/// Exactly one of: a run directory; an experiment file; neither, with what follows (prompts: none for the built-in ones).
struct GateConfig {
  std::string id;
  std::filesystem::path directory;  // that relative paths of the text start from
  std::filesystem::path run, experiment;
  std::filesystem::path model;  // empty: the demo model
  std::vector<std::filesystem::path> prompt_files;
  std::optional<std::string> prompt;
  std::string arm_a, arm_b, layers, stages;  // as on the command line of isolate
  int span = 0;                              // 0: the experiment's
  bool bounds = true;                        // false: as isolate --no-bounds
  std::filesystem::path baseline;            // empty: none
  std::vector<Reason> allow;                 // no agreement, yet the figures shall decide
  std::vector<Limit> limits;                 // in the order of kFigures, absolute ones first
};

/// Reasons that a gate may allow: the comparison was sound, and what differs is measured.
inline constexpr std::array<Reason, 4> kAllowable = {Reason::above_threshold, Reason::beyond_bound, Reason::below_threshold,
                                                     Reason::weights_differ};

/// `where` names the text in errors; paths in it are relative to `directory`. Throws Error: syntax, an unknown key (naming the
/// nearest known one), a bad value, a limit relative to a baseline without one, `allow` without a limit that could fail.
GateConfig parse_gate(std::string_view toml, std::string_view where, const std::filesystem::path& directory);
/// At most 1 MiB.
GateConfig load_gate(const std::filesystem::path& file);

}  // namespace greta::isolate
