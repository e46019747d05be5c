#include "audit/attention_bound.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "audit/dot_bound.h"
#include "audit/elementwise_bound.h"

namespace greta::audit {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

template <class Real>
Estimate qk_head(std::span<const double> q, std::int64_t n_keys, const KeyRow& key, const Scores& scores,
                 const Arithmetic& arithmetic) {
  Estimate out(static_cast<std::size_t>(n_keys), true);
  for (std::int64_t j = 0; j < n_keys; ++j) {
    const auto at = static_cast<std::size_t>(j);
    if (j < scores.first_key) {
      put_exact(out, at, -kInfinity);
      continue;
    }
    const DotSum<Real> sum = dot<Real>(q, key(j), arithmetic);
    Errors errors = dot_errors(sum, arithmetic);
    Real value = sum.value * static_cast<Real>(scores.scale);
    const double factor = std::fabs(scores.scale);
    const double rounding = arithmetic.unit() * std::fabs(static_cast<double>(value));
    errors = {errors.bound * factor + 2 * rounding + arithmetic.accumulator.smallest,
              errors.worst * factor + 2 * rounding + arithmetic.accumulator.smallest, rounding};
    if (scores.softcap > 0) softcap(value, errors, scores.softcap, arithmetic);
    put(out, at, value, errors, arithmetic);
  }
  out.common = out.bound;  // all keys meet the same query
  return out;
}

/// The sum of `terms` in the declared order: value, and what its error depends on. Additions only, so nothing rounds twice.
template <class Real>
DotSum<Real> ordered_sum(const std::vector<double>& terms, const Arithmetic& arithmetic) {
  const std::vector<double> ones(terms.size(), 1.0);
  Arithmetic additions = arithmetic;
  additions.fused = true;
  additions.operand = {};
  return dot<Real>(terms, ones, additions);
}

template <class Real>
Estimate softmax_head(std::span<const double> scores, const Arithmetic& arithmetic) {
  Estimate out(scores.size(), true);
  double top = -kInfinity;
  bool nan = false;
  for (const double score : scores) {
    nan = nan || std::isnan(score);
    top = std::max(top, score);
  }
  if (nan || std::isinf(top)) {
    std::fill(out.value.begin(), out.value.end(), std::numeric_limits<double>::quiet_NaN());
    return out;
  }
  std::vector<double> terms(scores.size());
  const double u = arithmetic.unit(), smallest = arithmetic.accumulator.smallest;
  Real sum = 0;
  double of_terms = 0, lost = 0;  // error of the sum through its terms: absolute
  for (std::size_t j = 0; j < scores.size(); ++j) {
    if (scores[j] == -kInfinity) continue;
    const double z = top - scores[j];
    const Real e = std::exp(-(static_cast<Real>(top) - static_cast<Real>(scores[j])));
    terms[j] = static_cast<double>(e);
    sum += e;
    of_terms += terms[j] * u * (z + arithmetic.exp);
    lost += smallest;
  }
  const auto total = static_cast<double>(sum);
  const DotSum<Real> ordered = ordered_sum<Real>(terms, arithmetic);
  const Errors adding = dot_errors(ordered, arithmetic);
  const double terms_error = (of_terms + lost) / total;
  const double shared = terms_error + adding.bound / total + u * arithmetic.exp;
  const double shared_worst = terms_error + adding.worst / total + u * arithmetic.exp;
  for (std::size_t j = 0; j < scores.size(); ++j) {
    if (scores[j] == -kInfinity) {
      put_exact(out, j, 0);
      continue;
    }
    const Real value = std::exp(-(static_cast<Real>(top) - static_cast<Real>(scores[j]))) / sum;
    const auto p = static_cast<double>(value);
    const double own = u * (top - scores[j] + arithmetic.divide), floor = smallest * (1 + 1 / total);
    put(out, j, value, {p * (shared + own) + floor, p * (shared_worst + own) + floor, p * shared + floor}, arithmetic);
  }
  return out;
}

template <class Real>
Estimate pv_head(std::span<const double> probs, std::int64_t head_dim, const KeyRow& value, std::int64_t first_key,
                 const Arithmetic& arithmetic) {
  const auto n = static_cast<std::size_t>(head_dim);
  std::vector<Real> sum(n);
  std::vector<double> squares(n), term_squares(n), before(n), alike(n);
  std::int64_t used = 0;
  for (std::size_t j = 0; j < probs.size(); ++j) {
    const double p = probs[j];
    if (p == 0 && static_cast<std::int64_t>(j) < first_key) continue;
    ++used;
    const double* v = value(static_cast<std::int64_t>(j)).data();
    for (std::size_t d = 0; d < n; ++d) {
      const Real product = static_cast<Real>(p) * static_cast<Real>(v[d]);
      const auto term = static_cast<double>(product);
      sum[d] += product;
      const auto partial = static_cast<double>(sum[d]);
      squares[d] += partial * partial;
      term_squares[d] += term * term;
      alike[d] += rounds_alike(term, before[d], partial, arithmetic.unit()) ? 1.0 : 0.0;
      before[d] = term;
    }
  }
  Estimate out(n);
  for (std::size_t d = 0; d < n; ++d) {
    DotSum<Real> chain;
    chain.squares = squares[d] + (arithmetic.fused ? 0 : term_squares[d]);
    chain.term_squares = term_squares[d];
    chain.roundings = used * (arithmetic.fused ? 1 : 2);
    chain.alike = static_cast<std::int64_t>(alike[d]) * (arithmetic.fused ? 1 : 2);
    put(out, d, sum[d], dot_errors(chain, arithmetic), arithmetic);
  }
  out.common = out.bound;  // all elements meet the same probabilities
  return out;
}

}  // namespace

Estimate qk(std::span<const double> q, std::int64_t n_keys, const KeyRow& key, const Scores& scores,
            const Arithmetic& arithmetic) {
  return arithmetic.is_double() ? qk_head<long double>(q, n_keys, key, scores, arithmetic)
                                : qk_head<double>(q, n_keys, key, scores, arithmetic);
}

Estimate softmax(std::span<const double> scores, const Arithmetic& arithmetic) {
  return arithmetic.is_double() ? softmax_head<long double>(scores, arithmetic) : softmax_head<double>(scores, arithmetic);
}

Estimate pv(std::span<const double> probs, std::int64_t head_dim, const KeyRow& value, std::int64_t first_key,
            const Arithmetic& arithmetic) {
  return arithmetic.is_double() ? pv_head<long double>(probs, head_dim, value, first_key, arithmetic)
                                : pv_head<double>(probs, head_dim, value, first_key, arithmetic);
}

}  // namespace greta::audit
