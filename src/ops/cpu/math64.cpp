#include "ops/cpu/math64.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "ops/cpu/exp_parts.h"

namespace greta {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

constexpr std::array<double, 18> kInverseFactorial = inverse_factorials();

// pi/2 as an unevaluated sum of doubles (Cody & Waite 1980, "Software Manual for the Elementary Functions").
constexpr double kHalfPi1 = 0x1.921fb54442d18p+0;
constexpr double kHalfPi2 = 0x1.1a62633145c07p-54;
constexpr double kHalfPi3 = -0x1.f1976b7ed8fbcp-110;

/// Horner in r^2 over the terms first, first + 2, ... last of the Taylor series with alternating signs, divided by the power of
/// `first`.
double alternating_series(double r2, int first, int last) {
  double sum = 0;
  for (int n = last; n >= first; n -= 2) {
    const double sign = (n / 2) % 2 == 0 ? 1.0 : -1.0;
    sum = std::fma(sum, r2, sign * kInverseFactorial[static_cast<std::size_t>(n)]);
  }
  return sum;
}

/// ln x = e ln 2 + 2 artanh((m - 1) / (m + 1)) with x = m 2^e, m in [1/sqrt 2, sqrt 2); for x > 0.
long double logarithm(long double x) {
  int exponent = 0;
  long double m = std::frexp(x, &exponent);
  if (m < 0.70710678118654752440L) {
    m *= 2;
    --exponent;
  }
  const long double z = (m - 1) / (m + 1);  // |z| <= 0.172
  long double sum = 0;
  for (int n = 27; n >= 1; n -= 2) sum = sum * z * z + 1.0L / static_cast<long double>(n);
  return 2 * z * sum + static_cast<long double>(exponent) * 0.693147180559945309417232121458176568L;
}

/// theta^(1/degree): good to double from exp64, then Newton's method on root^degree = theta, which squares the error. The
/// root's powers are then good to far below a unit of double, where long double has 64 bits.
long double root_of(long double theta, int degree) {
  if (degree < 1) return theta;
  const auto n = static_cast<long double>(degree);
  long double root = static_cast<long double>(exp64(static_cast<double>(logarithm(theta) / n)));
  for (int step = 0; step < 2; ++step) {
    long double power = 1;
    for (int i = 0; i < degree; ++i) power *= root;
    root -= root * (1 - theta / power) / n;
  }
  return root;
}

}  // namespace

double exp64(double x) {
  if (x != x) return x;
  if (x > 710.0) return std::numeric_limits<double>::infinity();
  if (x < -746.0) return 0.0;
  const ExpParts e = exp_parts<>(x);
  return std::ldexp(1.0 + e.fraction, e.exponent);
}

double tanh64(double x) {
  if (x != x) return x;
  const ExpParts e = exp_parts<>(2.0 * std::min(std::fabs(x), 20.0));
  const double power = std::ldexp(1.0, e.exponent);
  const double m = std::fma(power, e.fraction, power - 1.0);  // e^2|x| - 1: nothing cancels near 0
  return std::copysign(m / (m + 2.0), x);
}

SinCos sincos64(double x) {
  if (!(std::fabs(x) < 0x1p31)) return {kNan, kNan};
  const double n = round_even(x * 0.6366197723675814);
  const double first = std::fma(n, -kHalfPi1, x);
  double r = std::fma(n, -kHalfPi2, first);
  const double lost = std::fma(n, -kHalfPi2, first - r);  // what the rounding of r left out
  const double low = std::fma(n, -kHalfPi3, lost);
  const double high = r;
  r = high + low;
  const double rest = (high - r) + low;
  const double r2 = r * r;
  // |r| <= pi/4: the first terms left out are below 2^-63. d sin = cos and d cos = -sin carry `rest`, the part of the angle
  // below r.
  const double sine = r + (r * r2 * alternating_series(r2, 3, 17) + rest);
  const double cosine = 1.0 + (r2 * alternating_series(r2, 2, 16) - r * rest);
  switch (static_cast<std::int64_t>(n) & 3) {
    case 0:
      return {sine, cosine};
    case 1:
      return {cosine, -sine};
    case 2:
      return {-sine, -cosine};
    default:
      return {-cosine, sine};
  }
}

std::vector<double> rope_frequencies(const RopeParams& params) {
  const int pairs = params.n_rot / 2;
  std::vector<double> frequency(static_cast<std::size_t>(pairs));
  const long double root = root_of(static_cast<long double>(params.theta), pairs);
  long double divisor = 1;
  for (int i = 0; i < pairs; ++i, divisor *= root) {
    const auto factor =
        params.freq_factors.empty() ? 1.0L : static_cast<long double>(params.freq_factors[static_cast<std::size_t>(i)]);
    frequency[static_cast<std::size_t>(i)] =
        static_cast<double>(1 / divisor / static_cast<long double>(params.linear_scale) / factor);
  }
  return frequency;
}

}  // namespace greta
