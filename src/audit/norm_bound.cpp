#include "audit/norm_bound.h"

#include <algorithm>
#include <cmath>

#include "audit/dot_bound.h"

namespace greta::audit {
namespace {

template <class Real>
void norm_group(std::span<const double> x, std::size_t first, std::span<const double> gain, double eps,
                const Arithmetic& arithmetic, Estimate& out) {
  const std::size_t n = gain.size();
  const std::span<const double> group = x.subspan(first, n);
  const DotSum<Real> squares = dot<Real>(group, group, arithmetic);
  const Errors sum = dot_errors(squares, arithmetic);
  const Real mean = squares.value / static_cast<Real>(n);
  const Real shifted = mean + static_cast<Real>(eps);
  const Real scale = 1 / std::sqrt(shifted);

  const double u = arithmetic.unit(), smallest = arithmetic.accumulator.smallest;
  const auto total = static_cast<double>(shifted);
  const auto relative = [&](double sum_error) {
    const double mean_error = sum_error / static_cast<double>(n) + u * static_cast<double>(mean) + smallest;
    const double shifted_error = (mean_error + u * eps + smallest) / total + u;
    return shifted_error / 2 + (arithmetic.root + arithmetic.divide) * u;
  };
  const double shared = relative(sum.bound), shared_worst = relative(sum.worst), own = 2 * (u + arithmetic.operand.unit);
  for (std::size_t i = 0; i < n; ++i) {
    const Real value = static_cast<Real>(group[i]) * scale * static_cast<Real>(gain[i]);
    const double size = std::fabs(static_cast<double>(value)), floor = smallest * (1 + std::fabs(gain[i]));
    put(out, first + i, value, {size * (shared + own) + floor, size * (shared_worst + own) + floor, size * shared}, arithmetic);
  }
}

}  // namespace

Estimate rmsnorm(std::span<const double> x, std::span<const double> gain, double eps, const Arithmetic& arithmetic) {
  Estimate out(x.size(), true);
  out.group = gain.size();
  for (std::size_t first = 0; first + gain.size() <= x.size(); first += gain.size()) {
    if (arithmetic.is_double()) {
      norm_group<long double>(x, first, gain, eps, arithmetic, out);
    } else {
      norm_group<double>(x, first, gain, eps, arithmetic, out);
    }
  }
  return out;
}

}  // namespace greta::audit
