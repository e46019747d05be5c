#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "core/error.h"
#include "ops/sampling.h"

namespace greta {

std::int32_t argmax(std::span<const double> logits) {
  std::int32_t best = -1;
  for (std::size_t i = 0; i < logits.size(); ++i) {
    if (std::isnan(logits[i])) continue;
    if (best < 0 || logits[i] > logits[static_cast<std::size_t>(best)]) best = static_cast<std::int32_t>(i);
  }
  return best;
}

Sampler::Sampler(const SamplerOptions& options) : options_(options), random_(options.seed) {
  if (!(options.temperature >= 0)) fail("--temp {} is not a temperature; use 0 (greedy) or more", options.temperature);
  if (options.top_k < 0) fail("--top-k {} is negative; use 0 for all tokens", options.top_k);
  if (!(options.top_p > 0 && options.top_p <= 1)) fail("--top-p {} is outside (0, 1]", options.top_p);
}

std::int32_t sample_token(std::span<const double> logits, const SamplerOptions& options, double unit) {
  const std::int32_t best = argmax(logits);
  if (best < 0 || options.temperature == 0) return best;
  if (static_cast<std::int64_t>(logits.size()) > kMostSampled)
    fail("sampling from {} logits: at most {} can be sampled; use --greedy", logits.size(), kMostSampled);

  std::vector<std::int32_t> order;
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (!std::isnan(logits[i])) order.push_back(static_cast<std::int32_t>(i));
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  if (options.top_k > 0 && order.size() > static_cast<std::size_t>(options.top_k))
    order.resize(static_cast<std::size_t>(options.top_k));

  const double top = logits[static_cast<std::size_t>(best)];
  std::vector<std::uint64_t> sums;  // of weights, up to and with each
  for (const std::int32_t id : order) {
    const double distance = sampled_distance(logits[static_cast<std::size_t>(id)], top, options.temperature);
    sums.push_back((sums.empty() ? 0 : sums.back()) + sampled_weight(distance));
  }
  const auto first_above = [&](std::uint64_t target) { return std::upper_bound(sums.begin(), sums.end(), target); };
  const std::uint64_t kept = options.top_p < 1 ? *first_above(nucleus_target(options.top_p, sums.back())) : sums.back();
  return order[static_cast<std::size_t>(first_above(drawn_target(unit, kept)) - sums.begin())];
}

double Sampler::next_unit() { return static_cast<double>(random_() >> 11) * 0x1p-53; }

std::int32_t Sampler::sample(std::span<const double> logits) {
  const std::int32_t token = sample_token(logits, options_, options_.temperature == 0 ? 0.0 : next_unit());
  if (token < 0) fail("all {} logits are NaN; run `greta isolate` to find where they come from", logits.size());
  return token;
}

}  // namespace greta
