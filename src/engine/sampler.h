// Choosing the next token from logits.
#pragma once

#include <cstdint>
#include <random>
#include <span>

namespace greta {

struct SamplerOptions {
  double temperature = 0.0;  // 0: greedy
  int top_k = 0;             // 0: all
  double top_p = 1.0;        // nucleus (Holtzman et al. 2020)
  std::uint64_t seed = 0;
};

/// Index of the largest logit; ties go to the lowest id; NaN is never chosen (-1 where all are NaN).
std::int32_t argmax(std::span<const double> logits);

/// The token that the random number `unit` in [0, 1) draws, or the largest logit where the temperature is 0; -1 where all are
/// NaN. The same on a device (ops/gpu/kernels.h, SampleArgs) for logits that float32 holds. Throws Error beyond kMostSampled
/// logits.
std::int32_t sample_token(std::span<const double> logits, const SamplerOptions& options, double unit);

class Sampler {
 public:
  /// Throws Error where temperature < 0, top_k < 0 or top_p is outside (0, 1].
  explicit Sampler(const SamplerOptions& options);
  /// Throws Error where no logit is a number.
  std::int32_t sample(std::span<const double> logits);
  const SamplerOptions& options() const { return options_; }
  /// The next random number, in [0, 1): `sample` takes one a token unless the temperature is 0.
  double next_unit();

 private:
  SamplerOptions options_;
  std::mt19937_64 random_;
};

}  // namespace greta
