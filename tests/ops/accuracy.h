// The error that an arm may make, and the fixture that runs a case on every arm.
//
// Bounds are running error bounds: u = 2^-24 (F32) or 2^-53 is the relative error of one rounding; a dot product in 16 chains
// of n/16 fused steps and a tree of 4 levels errs by at most (n/16 + 5) u sum|terms|, one in order by n u sum|terms|.
#pragma once

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <string>
#include <tuple>

#include "tests/ops/harness.h"

namespace greta::test {

using Real = long double;

/// Error that storing `value` in the arm's activations adds.
inline Real stored(const Arm& arm, Real value) {
  return (arm.activations == DType::f32 ? static_cast<Real>(kUnit32) : static_cast<Real>(kUnit64)) * std::fabs(value) +
         static_cast<Real>(arm.activations == DType::f32 ? 0x1p-149 : 0);
}
/// One rounding of the arm's arithmetic.
inline Real unit(const Arm& arm) { return static_cast<Real>(arm.route == RouteId::reference ? kUnit32 : kUnit64); }
/// Roundings along the longest path of a sum of n terms.
inline Real sum_depth(const Arm& arm, std::int64_t n) {
  return arm.route == RouteId::reference ? static_cast<Real>((n + 15) / 16 + 5) : static_cast<Real>(n + 1);
}

inline void expect_close(const Tensor& got, std::int64_t r, std::int64_t c, Real want, Real bound) {
  const Real error = std::fabs(static_cast<Real>(got.get(r, c)) - want);
  EXPECT_LE(error, bound) << "row " << r << " column " << c << ": got " << got.get(r, c) << ", want " << want;
}

template <class Case>
class OnEveryArm : public testing::TestWithParam<std::tuple<Case, Arm>> {
 protected:
  const Case& shape() const { return std::get<0>(this->GetParam()); }
  const Arm& arm() const { return std::get<1>(this->GetParam()); }
};
struct LabelOf {
  template <class Info>
  std::string operator()(const Info& info) const {
    return std::get<0>(info.param).label() + "_" + std::get<1>(info.param).label();
  }
};

}  // namespace greta::test
