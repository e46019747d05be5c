#include "isolate/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace greta::isolate {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

/// |b - a|; 0 for two NaNs or the same infinity, infinite where one side alone is not finite.
double element_error(double a, double b) {
  if (a == b || (std::isnan(a) && std::isnan(b))) return 0;
  const double error = std::abs(b - a);
  return std::isnan(error) ? kInfinity : error;
}

bool same_value(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

bool same_statistics(const Fingerprint& a, const Fingerprint& b) {
  return a.count == b.count && a.nan == b.nan && a.inf == b.inf && a.zero == b.zero && same_value(a.min, b.min) &&
         same_value(a.max, b.max) && same_value(a.mean, b.mean) && same_value(a.rms, b.rms) && same_value(a.abs_sum, b.abs_sum);
}

bool all_zero(const Fingerprint& print) { return print.count > 0 && print.zero == print.count; }

/// Root mean square of the finite elements.
double slice_rms(std::span<const double> x) {
  double sum = 0;
  std::int64_t n = 0;
  for (const double value : x) {
    if (!std::isfinite(value)) continue;
    sum += value * value;
    ++n;
  }
  return n == 0 ? 0 : std::sqrt(sum / static_cast<double>(n));
}

/// Elements that are masked on both sides are equal, and no part of the rows' size: they must not dilute a difference.
bool masked(double a, double b) { return std::isinf(a) && a == b; }

double slice_error_rms(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  std::int64_t n = 0;
  for (std::size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    if (masked(a[i], b[i])) continue;
    const double error = element_error(a[i], b[i]);
    sum += error * error;
    ++n;
  }
  return n == 0 ? 0 : std::sqrt(sum / static_cast<double>(n));
}

void measure_rms(const Fingerprint& a, const Fingerprint& b, Difference& d) {
  double of_a = a.rms;
  if (const auto norm = sketch_norm(a.sketch, b.sketch); norm && a.count > 0) {
    const std::int64_t finite = std::max(a.count - a.nan - a.inf, b.count - b.nan - b.inf);  // what the sketches hold
    d.rms = *norm / std::sqrt(static_cast<double>(std::max<std::int64_t>(finite, 1)));
    d.rms_from = RmsFrom::sketch;
  } else if (d.slice_n > 0) {
    const auto n = static_cast<std::size_t>(d.slice_n);
    d.rms = slice_error_rms(a.sample, b.sample);
    of_a = slice_rms(std::span(a.sample).first(n));
    d.rms_from = RmsFrom::slice;
  } else if (a.count > 0 && b.count > 0) {
    d.rms = std::max(std::abs(b.rms - a.rms), std::abs(b.mean - a.mean));
    d.rms_from = RmsFrom::statistics;
  }
  if (d.rms && of_a > 0) d.rel = *d.rms / of_a;
}

}  // namespace

std::optional<double> slice_mae(std::span<const double> a, std::span<const double> b) {
  const std::size_t n = std::min(a.size(), b.size());
  if (n == 0) return std::nullopt;
  double sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += element_error(a[i], b[i]);
  return sum / static_cast<double>(n);
}

std::optional<MaxAbs> slice_max_abs(std::span<const double> a, std::span<const double> b) {
  const std::size_t n = std::min(a.size(), b.size());
  if (n == 0) return std::nullopt;
  MaxAbs worst{-1, -1};
  for (std::size_t i = 0; i < n; ++i)
    if (const double error = element_error(a[i], b[i]); error > worst.value) worst = {error, static_cast<std::int64_t>(i)};
  return worst;
}

std::optional<double> slice_cosine(std::span<const double> a, std::span<const double> b) {
  const std::size_t n = std::min(a.size(), b.size());
  double dot = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < n; ++i) {
    if (masked(a[i], b[i])) continue;
    dot += a[i] * b[i];
    aa += a[i] * a[i];
    bb += b[i] * b[i];
  }
  const double cosine = dot / (std::sqrt(aa) * std::sqrt(bb));
  if (!std::isfinite(cosine)) return std::nullopt;
  return std::clamp(cosine, -1.0, 1.0);
}

std::optional<double> sketch_norm(std::span<const double> a, std::span<const double> b) {
  if (a.empty() || a.size() != b.size()) return std::nullopt;
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double error = element_error(a[i], b[i]);
    sum += error * error;
  }
  return std::sqrt(sum);
}

Difference difference(const StageRecord& left, const StageRecord& right) {
  const Fingerprint& a = left.print;
  const Fingerprint& b = right.print;
  Difference d;
  d.nan_a = a.nan;
  d.nan_b = b.nan;
  d.inf_a = a.inf;
  d.inf_b = b.inf;
  d.all_zero = all_zero(a) && all_zero(b);
  d.hashed = a.whole_row && b.whole_row;
  d.counts_differ = d.hashed && a.count != b.count;
  d.slice_n = static_cast<std::int64_t>(std::min(a.sample.size(), b.sample.size()));
  d.mae = slice_mae(a.sample, b.sample);
  d.cosine = d.slice_n > 0 ? slice_cosine(a.sample, b.sample) : std::nullopt;
  if (const auto worst = slice_max_abs(a.sample, b.sample)) {
    d.max_abs = worst->value;
    d.max_index = worst->index;
  }
  if (!d.counts_differ) measure_rms(a, b, d);
  if (d.hashed) {
    d.bit_equal = !d.counts_differ && !dtypes_differ(left, right) && a.hash == b.hash;
  } else {
    d.bit_equal = d.mae ? *d.mae == 0 : same_statistics(a, b);
  }
  return d;
}

bool dtypes_differ(const StageRecord& a, const StageRecord& b) { return a.dtype && b.dtype && *a.dtype != *b.dtype; }

bool infinities_differ(const Difference& d) { return (d.inf_b > 0 && d.inf_a == 0) || (d.hashed && d.inf_a != d.inf_b); }

bool judged_absolutely(Stage stage, const Difference& difference) {
  return stage == Stage::attn_probs || (difference.rms && !difference.rel);
}

bool above(const Thresholds& thresholds, Stage stage, const Difference& d) {
  if (d.bit_equal) return false;
  if (d.nan_a > 0) return false;  // nothing can be said against side B
  if (d.counts_differ || d.nan_b > 0 || infinities_differ(d)) return true;
  if (d.mae && *d.mae > thresholds.mae) return true;
  const std::optional<double>& size = judged_absolutely(stage, d) ? d.rms : d.rel;
  return size && *size > thresholds.rel;
}

}  // namespace greta::isolate
