// Phrases that text, log and both languages of the report share. `Language::both` reads as English.
#pragma once

#include <optional>
#include <span>
#include <string>

#include "isolate/outcome.h"
#include "report/language.h"

namespace greta::report {

/// "ffn_norm, layer 0, position 4"; without the layer for stages that exist once a token.
std::string place(Stage stage, int layer, int position, Language language);
/// "%.3e", "unknown" without a value.
std::string scientific(const std::optional<double>& value, Language language);
/// "`ffn_norm`, `mlp_out`".
std::string list(std::span<const Stage> stages);
std::string list(std::span<const std::string> names);
/// "[4, 1]"; long schedules of single rows as "[4, 1 x 16]".
std::string schedule(const std::vector<std::int32_t>& rows);
/// What the operands at a mismatch say: whether the op computed otherwise, or was given otherwise.
std::string evidence(const isolate::Mismatch& mismatch, Language language);
/// MAE, largest error and where, relative RMS, cosine: those that are known.
std::string measures(const isolate::Difference& difference, Language language);
/// isolate::explain in the language.
std::string explanation(isolate::Reason reason, Language language);
/// One sentence on the collapse: value, token, how many of how many prompts, how the token was found.
std::string collapse(const isolate::Outcome& outcome, Language language);
/// What became of the arm that was run again with right values in its guilty rows; empty where that was not done.
std::string confirmation(const isolate::Cause& cause, Language language);
/// The bucket of the report B3.42: NONE where nothing diverged, `unknown` where no cause is named.
std::string bucket(const isolate::Cause& cause);
/// How many controls were found, how they were planted, and the first that was not.
std::string controls(const isolate::Outcome& outcome, Language language);

/// What several prompts have in common: for sentences over all of them.
struct Summary {
  std::vector<const isolate::PromptOutcome*> diverged, agreed, other;
  bool same_first = false;                    // all diverged ones have their first mismatch at one stage and layer
  std::optional<double> largest_witness_mae;  // over diverged prompts
  int measured = 0;                           // prompts with a top-1 in arm B
};
Summary summarise(const isolate::Outcome& outcome);

}  // namespace greta::report
