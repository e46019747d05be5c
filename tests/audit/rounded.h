// Arithmetic of any precision with any rounding, emulated: what a healthy route in another order or with other luck could
// compute.
#pragma once

#include <cmath>
#include <random>
#include <span>
#include <vector>

namespace greta::test {

/// Rounds results to `digits` significant bits: to nearest, or up or down at random, the nearer one more often (Connolly,
/// Higham & Mary 2021, Stochastic Rounding and Its Probabilistic Backward Error Analysis, SISC 43(1)): errors of up to 2 units,
/// 0 on average.
class Rounded {
 public:
  Rounded(int digits, bool stochastic, std::mt19937_64& random) : digits_(digits), stochastic_(stochastic), random_(random) {}

  double operator()(double x) {
    if (x == 0 || !std::isfinite(x)) return x;
    int exponent = 0;
    std::frexp(x, &exponent);
    const double ulp = std::ldexp(1.0, exponent - digits_), scaled = x / ulp, low = std::floor(scaled);
    if (low == scaled) return x;
    if (!stochastic_) return std::nearbyint(scaled) * ulp;
    return (low + (std::uniform_real_distribution<double>()(random_) < scaled - low ? 1.0 : 0.0)) * ulp;
  }

  double add(double a, double b) { return (*this)(a + b); }
  double mul(double a, double b) { return (*this)(a * b); }
  double div(double a, double b) { return (*this)(a / b); }
  double fma(double a, double b, double c) { return (*this)(std::fma(a, b, c)); }
  double unit() const { return std::ldexp(stochastic_ ? 2.0 : 1.0, -digits_); }

 private:
  int digits_;
  bool stochastic_;
  std::mt19937_64& random_;
};

/// Term i in chain i % lanes; the chains by halves.
inline double rounded_dot(Rounded& round, std::span<const double> x, std::span<const double> w, std::size_t lanes, bool fused) {
  std::vector<double> sums(lanes, 0.0);
  for (std::size_t i = 0; i < x.size(); ++i) {
    double& sum = sums[i % lanes];
    sum = fused ? round.fma(x[i], w[i], sum) : round.add(sum, round.mul(x[i], w[i]));
  }
  for (; lanes > 1; lanes /= 2) {
    for (std::size_t i = 0; i < lanes / 2; ++i) sums[i] = round.add(sums[i], sums[i + lanes / 2]);
  }
  return sums[0];
}

inline std::vector<double> rounded_rmsnorm(Rounded& round, std::span<const double> x, std::span<const double> gain, double eps,
                                           std::size_t lanes) {
  const double mean = round.div(rounded_dot(round, x, x, lanes, true), static_cast<double>(x.size()));
  const double scale = round.div(1, round(std::sqrt(round.add(mean, round(eps)))));
  std::vector<double> out;
  for (std::size_t i = 0; i < x.size(); ++i) out.push_back(round.mul(round.mul(x[i], scale), gain[i]));
  return out;
}

/// `subtract_max` false: the formula without the maximum, as a faulty kernel has it.
inline std::vector<double> rounded_softmax(Rounded& round, std::span<const double> scores, std::size_t lanes,
                                           bool subtract_max) {
  double top = subtract_max ? scores[0] : 0;
  for (const double score : scores) top = subtract_max ? std::max(top, score) : 0;
  std::vector<double> out;
  const std::vector<double> ones(scores.size(), 1.0);
  for (const double score : scores) out.push_back(round(std::exp(round.add(score, -top))));
  const double sum = rounded_dot(round, out, ones, lanes, true);
  for (double& e : out) e = round.div(e, sum);
  return out;
}

/// values: [n_keys][head_dim], one after the other.
inline std::vector<double> rounded_pv(Rounded& round, std::span<const double> probs, std::span<const double> values) {
  const std::size_t head_dim = values.size() / probs.size();
  std::vector<double> out(head_dim);
  for (std::size_t j = 0; j < probs.size(); ++j) {
    for (std::size_t d = 0; d < head_dim; ++d) out[d] = round.fma(probs[j], values[j * head_dim + d], out[d]);
  }
  return out;
}

inline std::vector<double> rounded_silu(Rounded& round, std::span<const double> gate, std::span<const double> up) {
  std::vector<double> out;
  for (std::size_t i = 0; i < gate.size(); ++i) {
    out.push_back(round.mul(round.div(gate[i], round.add(1, round(std::exp(-gate[i])))), up[i]));
  }
  return out;
}

}  // namespace greta::test
