// e^x in double as a power of two and a fraction: the same operations in the same order wherever it is computed.
#pragma once

#include <array>
#include <cstddef>

namespace greta {

/// 1/n! for n = 0..17, correctly rounded: n! is exact up to 18!.
constexpr std::array<double, 18> inverse_factorials() {
  std::array<double, 18> inverse{};
  double factorial = 1;
  for (std::size_t n = 0; n < inverse.size(); ++n) {
    if (n > 1) factorial *= static_cast<double>(n);
    inverse[n] = 1.0 / factorial;
  }
  return inverse;
}

/// Nearest integer, ties to even, for |x| < 2^51: adding 1.5 * 2^52 leaves no bits below the unit.
constexpr double round_even(double x) {
  constexpr double kMagic = 0x1.8p52;
  return (x + kMagic) - kMagic;
}

/// e^x = 2^exponent * (1 + fraction).
struct ExpParts {
  double fraction;
  int exponent;
};

/// For |x| < 747. ln 2 as an unevaluated sum of doubles (Cody & Waite 1980, "Software Manual for the Elementary Functions").
template <class T = void>  // a template, because clang takes a fused multiply-add for no constant expression
constexpr ExpParts exp_parts(double x) {
  constexpr double kLn2High = 0x1.62e42fefa39efp-1;
  constexpr double kLn2Low = 0x1.abc9e3b39803fp-56;
  constexpr std::array<double, 18> kInverseFactorial = inverse_factorials();
  const double n = round_even(x * 1.4426950408889634);
  const double high = __builtin_fma(n, -kLn2High, x);  // exact: the leading bits cancel
  const double low = n * -kLn2Low;
  const double r = high + low;
  const double lost = (high - r) + low;
  double p = 0;
  for (std::size_t k = 13; k >= 2; --k) p = __builtin_fma(p, r, kInverseFactorial[k]);  // |r| < 0.347: r^14/14! < 2^-57
  return {r + __builtin_fma(r * r, p, lost), static_cast<int>(n)};
}

}  // namespace greta
