#include "audit/local_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

namespace greta::audit {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
const double kDeviations = 6 / std::sqrt(3.0);

bool can_average(const Estimate& estimate, std::span<const double> actual, std::size_t i) {
  return std::isfinite(estimate.value[i]) && std::isfinite(actual[i]) && std::isfinite(estimate.bound[i]);
}

double common_of(const Estimate& estimate, std::size_t i) { return estimate.common.empty() ? 0.0 : estimate.common[i]; }
double own_of(const Estimate& estimate, std::size_t i) { return std::max(0.0, estimate.bound[i] - common_of(estimate, i)); }

/// sum (sum of `weighted` own bounds of like elements)^2. Like are elements whose significands lie closer together than a
/// quarter of what they may err: then they round alike (values at a cap, tokens of one embedding, a power of two times
/// another).
double merged_squares(const Estimate& estimate, const std::vector<std::size_t>& elements, const std::vector<double>& weighted) {
  struct Member {
    double significand, reach, bound;
  };
  std::vector<Member> members;
  for (std::size_t k = 0; k < elements.size(); ++k) {
    int exponent = 0;
    const double significand = std::fabs(std::frexp(estimate.value[elements[k]], &exponent));
    members.push_back({significand, 0.25 * std::ldexp(own_of(estimate, elements[k]), -exponent), weighted[k]});
  }
  std::sort(members.begin(), members.end(), [](const Member& a, const Member& b) { return a.significand < b.significand; });
  double squares = 0, bound = 0;
  for (std::size_t k = 0; k < members.size(); ++k) {
    if (k > 0 && members[k].significand - members[k - 1].significand > std::min(members[k].reach, members[k - 1].reach)) {
      squares += bound * bound;
      bound = 0;
    }
    bound += members[k].bound;
  }
  return squares + bound * bound;
}

/// The largest of the group's values and bounds: what is summed below is divided by it, so that no square underflows.
double size_of(const Estimate& estimate, const std::vector<std::size_t>& elements, bool values) {
  double size = 0;
  for (const std::size_t i : elements) size = std::max(size, values ? std::fabs(estimate.value[i]) : estimate.bound[i]);
  return size;
}

/// One weighted mean of a group's errors against its bound; weights are values (scale) or 1 (offset).
CommonError common_error(const Estimate& estimate, std::span<const double> actual, const std::vector<std::size_t>& elements,
                         bool scale) {
  CommonError out;
  const double value_size = size_of(estimate, elements, true), bound_size = size_of(estimate, elements, false);
  const double unit = scale || bound_size == 0 ? value_size : bound_size;  // of errors
  if (!(unit > 0)) return out;
  double sum = 0, norm = 0, shared = 0, squares = 0;
  std::vector<double> weighted;
  weighted.reserve(elements.size());
  for (const std::size_t i : elements) {
    const double weight = scale ? estimate.value[i] / value_size : 1.0, size = std::fabs(weight);
    sum += weight * ((actual[i] - estimate.value[i]) / unit);
    norm += weight * weight;
    shared += size * (common_of(estimate, i) / unit);
    weighted.push_back(size * (own_of(estimate, i) / unit));
    squares += weighted.back() * weighted.back();
  }
  double bound = shared + kDeviations * std::sqrt(squares);
  if (std::fabs(sum) > bound) {  // rare: worth a sort
    bound = shared + kDeviations * std::sqrt(merged_squares(estimate, elements, weighted));
  }
  const double back = scale ? 1 : unit;
  out.error = sum / norm * back;
  out.bound = bound / norm * back;
  out.ratio = sum == 0 ? 0 : std::fabs(sum) / bound;
  out.first = elements.front();
  return out;
}

void keep_larger(CommonError& kept, const CommonError& other) {
  if (other.ratio > kept.ratio || kept.bound == 0) kept = other;
}

/// |error| / bound of one element, and which side of the rules for NaN and infinity it falls on.
void judge_element(const Estimate& estimate, std::span<const double> actual, std::size_t i, LocalError& out) {
  const double value = estimate.value[i], got = actual[i];
  if (std::isnan(value) && std::isnan(got)) {
    ++out.both_nan;
    return;
  }
  if (std::isinf(estimate.bound[i]) && !std::isnan(got)) {
    ++out.unbounded;
    return;
  }
  ++out.judged;
  double error = got - value, ratio = 0;
  if (got == value) {
    error = 0;
  } else if (!std::isfinite(got) || !std::isfinite(value)) {
    ratio = kInfinity;
    ++out.over_worst;
  } else {
    ratio = std::fabs(error) / estimate.bound[i];
    out.over_worst += std::fabs(error) > estimate.worst[i];
  }
  out.over += ratio > 1;
  if (ratio > out.ratio || out.judged == 1) {
    out.ratio = ratio;
    out.element = i;
    out.error = error;
    out.bound = estimate.bound[i];
  }
}

}  // namespace

LocalError judge(const Estimate& estimate, std::span<const double> actual) {
  LocalError out;
  const std::size_t n = std::min(estimate.value.size(), actual.size());
  for (std::size_t i = 0; i < n; ++i) judge_element(estimate, actual, i, out);
  // Elements that one side lacks are as wrong as NaN.
  const auto missing = static_cast<std::int64_t>(std::max(estimate.value.size(), actual.size()) - n);
  if (missing > 0) {
    out.over += missing;
    out.over_worst += missing;
    out.judged += missing;
    out.ratio = kInfinity;
    out.element = n;
  }
  const std::size_t group = estimate.group > 0 ? estimate.group : std::max<std::size_t>(n, 1);
  std::vector<std::size_t> elements;
  for (std::size_t first = 0; first < n; first += group) {
    elements.clear();
    for (std::size_t i = first; i < std::min(n, first + group); ++i) {
      if (can_average(estimate, actual, i)) elements.push_back(i);
    }
    keep_larger(out.scale, common_error(estimate, actual, elements, true));
    keep_larger(out.offset, common_error(estimate, actual, elements, false));
  }
  return out;
}

double largest_ratio(const LocalError& error) {
  return std::isnan(error.ratio) ? kInfinity : std::max({error.ratio, error.scale.ratio, error.offset.ratio});
}

std::string described(const LocalError& error) {
  const auto common = [](const char* what, const CommonError& e) {
    return fmt::format("the row is off by a common {} of {:.3g}, bound {:.3g}", what, e.error, e.bound);
  };
  if (error.over > 0)
    return fmt::format("element {} is off by {:.3g}, bound {:.3g} ({} of {} elements beyond theirs)", error.element,
                       error.error, error.bound, error.over, error.judged);
  return error.scale.over() ? common("factor", error.scale) : common("offset", error.offset);
}

}  // namespace greta::audit
