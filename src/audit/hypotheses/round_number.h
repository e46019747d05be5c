// Parameters that people choose are round numbers; fitted ones are rounded to them.
#pragma once

#include <cmath>

namespace greta::audit {

/// `value`, above 0, in `digits` significant decimal digits.
inline double rounded_to(double value, int digits) {
  const double step = std::pow(10.0, std::floor(std::log10(value)) + 1 - digits);
  return std::round(value / step) * step;
}

}  // namespace greta::audit
