#include "audit/elementwise_bound.h"

#include <cmath>

namespace greta::audit {
namespace {

template <class Real>
void act_mul_element(Activation act, double gate, double up, const Arithmetic& arithmetic, Estimate& out, std::size_t i) {
  const Real x = static_cast<Real>(gate);
  Real v = x;
  double argument = 0, constants = 0;  // relative errors of v, in units
  if (act == Activation::gelu_tanh) {
    const Real twice_root = std::sqrt(8 / std::acos(Real{-1}));
    v = twice_root * (x + static_cast<Real>(0.044715L) * x * x * x);
    argument = arithmetic.fused ? 4 : 7;
    constants = 2;
  }
  const Real power = std::exp(-v);
  const Real value = x / (1 + power) * static_cast<Real>(up);

  const double u = arithmetic.unit(), size = std::fabs(static_cast<double>(value)), turn = std::fabs(static_cast<double>(v));
  const auto e = static_cast<double>(power);
  const double passed = std::isinf(e) ? 1 : e / (1 + e);
  const double function = u * passed * (arithmetic.exp + constants * turn);
  const double own = u * (passed * argument * turn + arithmetic.divide + 2);
  double all = size * (function + own) + arithmetic.accumulator.smallest * (1 + std::fabs(up));
  if (!(e * (1 + function + 8 * u) < arithmetic.accumulator.largest)) all += size;
  put(out, i, value, {all, all, size * function}, arithmetic);
}

}  // namespace

Estimate embed(std::span<const double> table_row, double scale, const Arithmetic& arithmetic) {
  Estimate out(table_row.size(), true);
  for (std::size_t i = 0; i < table_row.size(); ++i) {
    const long double value = static_cast<long double>(table_row[i]) * static_cast<long double>(scale);
    const double rounding = scale == 1 ? 0 : arithmetic.unit() * std::fabs(static_cast<double>(value));
    const double floor = scale == 1 ? 0 : arithmetic.accumulator.smallest;
    put(out, i, value, {2 * rounding + floor, 2 * rounding + floor, rounding}, arithmetic);
  }
  return out;
}

Estimate add(std::span<const double> a, std::span<const double> b, const Arithmetic& arithmetic) {
  Estimate out(a.size());
  for (std::size_t i = 0; i < a.size(); ++i) {
    const long double value = static_cast<long double>(a[i]) + static_cast<long double>(b[i]);
    const double rounding = arithmetic.unit() * std::fabs(static_cast<double>(value));
    put(out, i, value, {rounding, rounding, 0}, arithmetic);
  }
  return out;
}

Estimate act_mul(Activation act, std::span<const double> gate, std::span<const double> up, const Arithmetic& arithmetic) {
  Estimate out(gate.size(), true);
  for (std::size_t i = 0; i < gate.size(); ++i) {
    if (arithmetic.is_double()) {
      act_mul_element<long double>(act, gate[i], up[i], arithmetic, out, i);
    } else {
      act_mul_element<double>(act, gate[i], up[i], arithmetic, out, i);
    }
  }
  return out;
}

template <class Real>
void softcap(Real& value, Errors& errors, double cap, const Arithmetic& arithmetic) {
  const double u = arithmetic.unit(), before = std::fabs(static_cast<double>(value));
  const Real t = std::tanh(value / static_cast<Real>(cap));
  value = static_cast<Real>(cap) * t;
  const auto slope = static_cast<double>(1 - t * t);
  const double size = std::fabs(static_cast<double>(value)), floor = arithmetic.accumulator.smallest * (1 + cap);
  const double shared = u * (slope * before + size * (arithmetic.tanh + 1));
  const double own = u * (slope * before * arithmetic.divide + size) + floor;
  errors = {slope * errors.bound + shared + own, slope * errors.worst + shared + own, slope * errors.common + shared};
}
template void softcap(double&, Errors&, double, const Arithmetic&);
template void softcap(long double&, Errors&, double, const Arithmetic&);

Estimate softcap(std::span<const double> x, double cap, const Arithmetic& arithmetic) {
  Estimate out(x.size(), true);
  for (std::size_t i = 0; i < x.size(); ++i) {
    auto value = static_cast<long double>(x[i]);
    Errors errors;
    softcap(value, errors, cap, arithmetic);
    put(out, i, value, errors, arithmetic);
  }
  return out;
}

Estimate handoff(std::span<const double> x) {
  Estimate out(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) put_exact(out, i, x[i]);
  return out;
}

}  // namespace greta::audit
