// What an op should have written, and how far rounding may have moved it.
#pragma once

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "audit/arithmetic.h"

namespace greta::audit {

/// One row of an op's output, [n].
///
/// `bound` is what the judge holds a healthy route to: a running error estimate in the route's declared order (Higham 2002,
/// Accuracy and Stability of Numerical Algorithms, section 3.3) whose independent roundings add in squares (Higham & Mary 2019,
/// A New Approach to Probabilistic Rounding Error Analysis, SISC 41(5), theorem 2.4: with probability above 1 - 2 exp(-18), 6
/// times their root), never above the worst case. `worst` is the deterministic bound (section 3.1): no rounding to nearest in
/// that order exceeds it.
struct Estimate {
  std::vector<double> value;
  std::vector<double> bound;
  std::vector<double> worst;
  /// The part of `bound` that neighbours may share, so that it does not average out over a row: an RMSNorm's scale, a softmax's
  /// sum, errors of functions. Empty: none.
  std::vector<double> common;
  /// Elements that share it: a head, a norm's group; 0: the whole row.
  std::size_t group = 0;

  explicit Estimate(std::size_t n = 0, bool shares = false) : value(n), bound(n), worst(n), common(shares ? n : 0) {}
};

/// Errors of one element before it is stored.
struct Errors {
  double bound = 0;
  double worst = 0;
  double common = 0;
};

/// Room for products of errors and for the judge's own roundings, both far below 1 %.
inline constexpr double kSecondOrder = 1.01;

/// Sets element i to `value`, whose errors in the accumulator's format are `errors`, and adds what storing it costs. What may
/// overflow is judged no more (an infinite bound); what must, has to be infinite.
template <class Real>
void put(Estimate& estimate, std::size_t i, Real value, Errors errors, const Arithmetic& arithmetic) {
  const auto nearest = static_cast<double>(value);
  const double size = std::fabs(nearest);
  const Rounding& output = arithmetic.output;
  double rounding = size * output.unit + output.smallest;
  if (arithmetic.is_double() && output.unit < 0x1p-53) rounding += size * 0x1p-53;  // of `value` itself
  double bound = kSecondOrder * (errors.bound + rounding), worst = kSecondOrder * (errors.worst + rounding);
  const double largest =
      output.unit > 0 ? std::fmin(output.largest, arithmetic.accumulator.largest) : arithmetic.accumulator.largest;
  estimate.value[i] = nearest;
  if (!(size + worst <= largest) && !std::isinf(nearest) && !std::isnan(nearest)) {
    if (size - worst > largest) {
      estimate.value[i] = std::copysign(std::numeric_limits<double>::infinity(), nearest);
      bound = worst = 0;
    } else {
      bound = worst = std::numeric_limits<double>::infinity();
    }
  }
  if (std::isinf(estimate.value[i])) bound = worst = 0;
  estimate.bound[i] = bound;
  estimate.worst[i] = worst;
  if (arithmetic.truncates) {
    if (estimate.common.size() != estimate.value.size()) estimate.common.resize(estimate.value.size());
    estimate.common[i] = bound;
  } else if (!estimate.common.empty()) {
    estimate.common[i] = std::fmin(bound, kSecondOrder * errors.common);
  }
}

/// An element that has to be exactly this.
inline void put_exact(Estimate& estimate, std::size_t i, double value) {
  estimate.value[i] = value;
  estimate.bound[i] = estimate.worst[i] = 0;
}

}  // namespace greta::audit
