// Figures of one prompt that thresholds and baselines can be held to: how far its rows and its logits lie apart.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "isolate/outcome.h"

namespace greta::isolate {

/// Rows of logits kept whole, by position.
using LogitsRows = std::map<std::int32_t, std::vector<double>>;

/// By nearest rank: the element ceil(fraction * n), counted from 1, of the `values` in ascending order; an element of the
/// values, never between two. 0 < fraction <= 1. nullopt for no values, NaN where one of them is.
std::optional<double> percentile(std::vector<double> values, double fraction);

/// Kullback-Leibler divergence sum p_a (ln p_a - ln p_b), in nats, of the softmaxes of two rows of logits (Kullback & Leibler
/// 1951), in float64; 0 for equal rows, never negative. A token that A cannot give (logit -infinity) counts 0; one that B alone
/// cannot give makes it infinite. NaN where a logit is NaN or +infinity, or a row is empty or -infinity throughout; the rows
/// must have one length.
double kl_divergence(std::span<const double> a, std::span<const double> b);

/// nullopt: there was nothing to take it from. A value that is not finite could not be told, or is infinite.
struct PromptFigures {
  std::string id;
  std::int64_t rows = 0;         // compared (rows that both arms recorded, and KV slots that were found changed)
  std::int64_t lower_bound = 0;  // of them: the figure of the row is a lower bound only, from its statistics
  /// Over the rows: relative RMS of the difference (Difference::rel; of probabilities and of rows that are zero in arm A the
  /// RMS itself), 0 where they are bit-equal. NaN on a side or infinities that differ: NaN.
  std::optional<double> p99;  // percentile(0.99)
  std::optional<double> max;
  std::int64_t positions = 0;            // of which both arms have logits
  std::optional<double> top1_agreement;  // fraction of them whose top-1 token agrees, 0..1
  std::optional<double> kl, kl_max;      // arm A to arm B: mean and largest over the positions, where all were kept whole
};

/// Mode E1, of captures whose verdict is not that they are misaligned. `logits_a` and `logits_b` may lack positions: KL
/// divergences then stay nullopt, as a mean over a part of them would be another figure.
PromptFigures measure_figures(const PromptPair& pair, const ExperimentSpec& spec, const LogitsRows& logits_a,
                              const LogitsRows& logits_b);

}  // namespace greta::isolate
