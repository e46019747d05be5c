#include "engine/sampler.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "core/error.h"

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

std::int32_t Sampler::sample(std::span<const double> logits) {
  const std::int32_t best = argmax(logits);
  if (best < 0) fail("all {} logits are NaN; run `greta isolate` to find where they come from", logits.size());
  if (options_.temperature == 0) return best;

  std::vector<std::int32_t> order;
  for (std::size_t i = 0; i < logits.size(); ++i)
    if (!std::isnan(logits[i])) order.push_back(static_cast<std::int32_t>(i));
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return logits[static_cast<std::size_t>(a)] > logits[static_cast<std::size_t>(b)];
  });
  if (options_.top_k > 0 && order.size() > static_cast<std::size_t>(options_.top_k))
    order.resize(static_cast<std::size_t>(options_.top_k));

  const double top = logits[static_cast<std::size_t>(best)];
  std::vector<double> weight;
  for (const std::int32_t id : order)
    weight.push_back(std::exp((logits[static_cast<std::size_t>(id)] - top) / options_.temperature));
  const double total = std::accumulate(weight.begin(), weight.end(), 0.0);
  double kept = 0;
  std::size_t n_kept = 0;
  while (n_kept < weight.size() && (n_kept == 0 || kept < options_.top_p * total)) kept += weight[n_kept++];

  const double unit = static_cast<double>(random_() >> 11) * 0x1p-53;  // [0, 1)
  double rest = unit * kept;
  for (std::size_t i = 0; i < n_kept; ++i) {
    rest -= weight[i];
    if (rest < 0) return order[i];
  }
  return order[n_kept - 1];
}

}  // namespace greta
