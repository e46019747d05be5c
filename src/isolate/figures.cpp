#include "isolate/figures.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "isolate/align.h"
#include "isolate/metrics.h"

namespace greta::isolate {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

/// Of a row's difference; nullopt where nothing is known of it.
std::optional<double> figure_of(const RecordPair& pair, const Difference& d) {
  if (d.bit_equal) return 0.0;
  if (d.counts_differ || d.nan_a > 0 || d.nan_b > 0 || infinities_differ(d)) return kNaN;
  return judged_absolutely(pair.b->stage, d) ? d.rms : d.rel;
}

void measure_rows(const PromptPair& pair, const ExperimentSpec& spec, PromptFigures& out) {
  const RecordIndex in_a(pair.a), in_b(pair.b);
  const Alignment alignment = align(pair.a, in_a, pair.b, in_b, spec, pair.n_positions);
  if (alignment.misaligned) return;
  std::vector<double> rows;
  for (const RecordPair& row : alignment.pairs) {
    const Difference d = difference(*row.a, *row.b);
    const auto figure = figure_of(row, d);
    rows.push_back(figure.value_or(kNaN));
    if (!d.bit_equal && d.rms_from == RmsFrom::statistics) ++out.lower_bound;
  }
  out.rows = static_cast<std::int64_t>(rows.size());
  out.p99 = percentile(rows, 0.99);
  out.max = percentile(std::move(rows), 1);
}

/// Logarithm of the sum of e^x; NaN as kl_divergence says.
double log_sum_exp(std::span<const double> row) {
  double top = -std::numeric_limits<double>::infinity();
  for (const double x : row) {
    if (std::isnan(x)) return kNaN;
    top = std::max(top, x);
  }
  if (!std::isfinite(top)) return kNaN;
  double sum = 0;
  for (const double x : row) sum += std::exp(x - top);
  return top + std::log(sum);
}

void measure_logits(const PromptPair& pair, const LogitsRows& logits_a, const LogitsRows& logits_b, PromptFigures& out) {
  std::map<std::int32_t, std::int32_t> top;
  for (const LogitsRecord& logits : pair.a.logits) top.emplace(logits.position, logits.top1_id);
  std::int64_t agree = 0;
  double sum = 0, largest = 0;
  bool whole = true;
  for (const LogitsRecord& logits : pair.b.logits) {
    const auto met = top.find(logits.position);
    if (met == top.end()) continue;
    ++out.positions;
    if (met->second == logits.top1_id && logits.top1_id >= 0) ++agree;  // -1: all NaN, which is no token
    const auto row_a = logits_a.find(logits.position), row_b = logits_b.find(logits.position);
    whole = whole && row_a != logits_a.end() && row_b != logits_b.end();
    if (!whole) continue;
    const double kl = kl_divergence(row_a->second, row_b->second);
    sum += kl;
    largest = std::isnan(kl) || std::isnan(largest) ? kNaN : std::max(largest, kl);
  }
  if (out.positions == 0) return;
  out.top1_agreement = static_cast<double>(agree) / static_cast<double>(out.positions);
  if (!whole) return;
  out.kl = sum / static_cast<double>(out.positions);
  out.kl_max = largest;
}

}  // namespace

std::optional<double> percentile(std::vector<double> values, double fraction) {
  if (values.empty()) return std::nullopt;
  if (std::any_of(values.begin(), values.end(), [](double x) { return std::isnan(x); })) return kNaN;
  const auto n = static_cast<double>(values.size());
  const auto rank = static_cast<std::size_t>(std::clamp(std::ceil(fraction * n), 1.0, n));
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(rank - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

double kl_divergence(std::span<const double> a, std::span<const double> b) {
  if (a.size() != b.size()) return kNaN;
  const double of_a = log_sum_exp(a), of_b = log_sum_exp(b);
  if (std::isnan(of_a) || std::isnan(of_b)) return kNaN;
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double log_a = a[i] - of_a;
    if (const double p = std::exp(log_a); p > 0) sum += p * (log_a - (b[i] - of_b));
  }
  return std::max(sum, 0.0);  // below 0 by rounding alone
}

PromptFigures measure_figures(const PromptPair& pair, const ExperimentSpec& spec, const LogitsRows& logits_a,
                              const LogitsRows& logits_b) {
  PromptFigures out;
  out.id = pair.b.prompt_id.empty() ? pair.a.prompt_id : pair.b.prompt_id;
  measure_rows(pair, spec, out);
  measure_logits(pair, logits_a, logits_b, out);
  return out;
}

}  // namespace greta::isolate
