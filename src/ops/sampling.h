// The arithmetic by which a token is drawn, one for the CPU's sampler (engine/sampler.h) and the device's (ops/gpu).
//
// Tokens stand in order of their logits, largest first, equals in order of id. Every token has a whole number for a weight, so
// sums of weights are exact: they are the same in any order of addition, on any machine.
#pragma once

#include <cstdint>

#include "ops/cpu/exp_parts.h"

namespace greta {

/// Most tokens of a vocabulary: their weights' sum then fits in 63 bits.
inline constexpr std::int64_t kMostSampled = std::int64_t{1} << 23;
/// Weight of the largest logit.
inline constexpr double kWeightUnit = 0x1p40;
/// Tokens as many temperatures below the largest have weight 0: e^-28 < 2^-40.
inline constexpr double kSampledReach = 28.0;

/// How many temperatures a logit lies below the largest, which is no NaN; NaN of NaN. Never decreases as the logit does.
constexpr double sampled_distance(double logit, double largest, double temperature) {
  return logit == largest ? 0.0 : (largest - logit) / temperature;
}

/// floor(2^40 e^-distance), but that exp is within 1 ULP.
constexpr std::uint64_t sampled_weight(double distance) {
  if (!(distance < kSampledReach)) return 0;
  const ExpParts e = exp_parts<>(-distance);
  const double power = __builtin_bit_cast(double, static_cast<std::uint64_t>(1023 + 40 + e.exponent) << 52);
  return static_cast<std::uint64_t>((1.0 + e.fraction) * power);
}

/// The nucleus (Holtzman et al. 2020, arXiv:1904.09751) is the first tokens whose weights' sum is above this, of all tokens'
/// sum `total` > 0.
constexpr std::uint64_t nucleus_target(double top_p, std::uint64_t total) {
  const double wanted = top_p * static_cast<double>(total);
  const auto whole = static_cast<std::uint64_t>(wanted);
  const std::uint64_t needed = static_cast<double>(whole) < wanted ? whole + 1 : whole;
  const std::uint64_t most = needed < total ? needed : total;
  return most == 0 ? 0 : most - 1;
}

/// The token drawn is the first up to which the weights' sum is above this. `unit` in [0, 1) is the random number, `kept` > 0
/// the sum of the weights to choose from.
constexpr std::uint64_t drawn_target(double unit, std::uint64_t kept) {
  const auto target = static_cast<std::uint64_t>(unit * static_cast<double>(kept));
  return target < kept ? target : kept - 1;
}

}  // namespace greta
