#include "audit/rope_bound.h"

#include <cmath>

namespace greta::audit {
namespace {

/// One output left * cosine + right * sine (sine signed).
void turn(Estimate& out, std::size_t at, double left, double right, long double cosine, long double sine, double angle,
          const Arithmetic& arithmetic) {
  const long double value = static_cast<long double>(left) * cosine + static_cast<long double>(right) * sine;
  const double u = arithmetic.unit();
  const double a = std::fabs(left * static_cast<double>(cosine)), b = std::fabs(right * static_cast<double>(sine));
  const double floors = arithmetic.turn_floor * (std::fabs(left) + std::fabs(right));
  // d cos = -sin d angle
  const double turned = arithmetic.angle_unit * std::fabs(angle) *
                        (std::fabs(left * static_cast<double>(sine)) + std::fabs(right * static_cast<double>(cosine)));
  const double table = arithmetic.turn * u * (a + b);
  const double own = u * (a + b + std::fabs(static_cast<double>(value))) + 3 * arithmetic.accumulator.smallest;
  const double all = table + floors + turned + own;
  put(out, at, value, {all, all, table + floors + turned}, arithmetic);
}

}  // namespace

Estimate rope(std::span<const double> x, const Rotation& rotation, std::int64_t position, const Arithmetic& arithmetic) {
  Estimate out(x.size(), true);
  const auto pairs = static_cast<std::size_t>(rotation.n_rot / 2), head_dim = static_cast<std::size_t>(rotation.head_dim);
  const std::size_t step = rotation.interleaved ? 2 : 1, other = rotation.interleaved ? 1 : pairs;
  for (std::size_t i = 0; i < pairs; ++i) {
    const long double factor = rotation.freq_factors.empty() ? 1.0L : static_cast<long double>(rotation.freq_factors[i]);
    const long double exponent = -2.0L * static_cast<long double>(i) / static_cast<long double>(rotation.n_rot);
    const long double angle = static_cast<long double>(position) *
                              std::pow(static_cast<long double>(rotation.theta), exponent) /
                              static_cast<long double>(rotation.linear_scale) / factor;
    const long double cosine = std::cos(angle), sine = std::sin(angle);
    for (std::size_t head = 0; head + head_dim <= x.size(); head += head_dim) {
      const std::size_t a = head + i * step, b = a + other;
      turn(out, a, x[a], x[b], cosine, -sine, static_cast<double>(angle), arithmetic);
      turn(out, b, x[b], x[a], cosine, sine, static_cast<double>(angle), arithmetic);
    }
  }
  for (std::size_t head = 0; head + head_dim <= x.size(); head += head_dim) {
    for (std::size_t i = head + 2 * pairs; i < head + head_dim; ++i) put(out, i, x[i], {}, arithmetic);
  }
  return out;
}

}  // namespace greta::audit
