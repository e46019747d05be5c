// The verdict on one row of one op: what it wrote against what it should have written.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

#include "audit/estimate.h"

namespace greta::audit {

/// An error that a whole group has in common: independent roundings average out, so its bound is far tighter than an element's
/// (epsilon 1e-5 for 1e-6 at mean square 1 scales an RMSNorm's row by 4.5e-6, where textbook bounds of its elements do not see
/// it).
struct CommonError {
  double error = 0;  // the largest by error / bound, signed
  double bound = 0;
  double ratio = 0;       // |error| / bound
  std::size_t first = 0;  // element at which its group begins
  bool over() const { return ratio > 1; }
};

struct LocalError {
  double ratio = 0;             // largest |error| / bound; 0 / 0 is 0
  std::size_t element = 0;      // where: the first of equals
  double error = 0;             // actual - value there, signed
  double bound = 0;             // there
  std::int64_t judged = 0;      // elements
  std::int64_t over = 0;        // of them, beyond `bound`; NaN where a number belongs, and the reverse, are over
  std::int64_t over_worst = 0;  // of them, beyond the deterministic bound: no rounding explains these
  std::int64_t both_nan = 0;    // not judged: that both are NaN does not make either right
  std::int64_t unbounded = 0;   // not judged: the bound is infinite, because the format may overflow
  CommonError scale;            // least-squares factor of the row less 1: sum e v / sum v^2, dimensionless
  CommonError offset;           // mean of e, in units of the values

  bool guilty() const { return over > 0 || scale.over() || offset.over(); }
};

/// Holds `actual` (n values) to the estimate. Groups of the common-mode tests are the estimate's.
///
/// With independent errors within b_i (bound - common) around 0 (so of standard deviation at most b_i / sqrt 3), sum w_i e_i
/// stays below 6 / sqrt 3 sqrt(sum w_i^2 b_i^2); what is shared adds sum |w_i| common_i. Elements of nearly equal significand
/// are one rounding seen many times, and count as one.
LocalError judge(const Estimate& estimate, std::span<const double> actual);

/// The largest of an element's, the scale's and the offset's ratio; infinite where an element's is NaN.
double largest_ratio(const LocalError& error);
/// Of a guilty one, in one line: "element 17 is off by 3.2e-05, bound 1.1e-07 (1 of 64 elements beyond theirs)".
std::string described(const LocalError& error);

}  // namespace greta::audit
