// Exponential, hyperbolic tangent, sine and cosine in double, our own: the C library's differ in bits between versions and processors.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/ops.h"

namespace greta {

/// e^x within 1 ULP (tests/ops/math_test.cpp); overflow gives infinity, results below the normal range are rounded once, NaN
/// gives NaN.
double exp64(double x);

/// tanh x within 3 ULP; NaN gives NaN.
double tanh64(double x);

struct SinCos {
  double sin = 0;
  double cos = 1;
};
/// Within 2e-16 of the truth for |x| < 2^31; NaN beyond, and for NaN.
SinCos sincos64(double x);

/// Angle of every pair of a head per unit of position: theta^(-2i/n_rot) / linear_scale / freq_factors[i], [n_rot/2].
std::vector<double> rope_frequencies(const RopeParams& params);

}  // namespace greta
