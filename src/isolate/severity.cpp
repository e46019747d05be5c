#include "isolate/severity.h"

#include <cmath>
#include <map>

#include "isolate/metrics.h"

namespace greta::isolate {
namespace {

std::map<int, const StageRecord*> logits_rows(const Capture& capture) {
  std::map<int, const StageRecord*> rows;
  for (const StageRecord& record : capture.records)
    if (record.stage == Stage::logits && record.exposure == Exposure::exposed) rows.emplace(record.position, &record);
  return rows;
}

}  // namespace

double flip_risk(double gap, double rms) {
  if (!(rms > 0)) return gap > 0 ? 0.0 : 0.5;
  return std::erfc(gap / (2 * rms)) / 2;
}

std::optional<Severity> severity(const Capture& a, const Capture& b) {
  const auto rows_a = logits_rows(a), rows_b = logits_rows(b);
  std::map<int, const LogitsRecord*> tops;
  for (const LogitsRecord& one : a.logits) tops.emplace(one.position, &one);
  Severity out;
  double sum = 0;
  int counted = 0;  // of which the risk is known
  for (const LogitsRecord& of_b : b.logits) {
    const auto of_a = tops.find(of_b.position);
    if (of_a == tops.end()) continue;
    ++out.positions;
    if (of_a->second->top1_id != of_b.top1_id) {
      ++out.flips;
      sum += 1;
      ++counted;
      if (out.first_flip < 0 || of_b.position < out.first_flip) out.first_flip = of_b.position;
      continue;
    }
    const auto row_a = rows_a.find(of_b.position), row_b = rows_b.find(of_b.position);
    if (row_a == rows_a.end() || row_b == rows_b.end() || of_a->second->top2_id < 0) continue;
    const Difference d = difference(*row_a->second, *row_b->second);
    const double rms = d.bit_equal ? 0.0 : d.rms.value_or(0.0);
    if (!std::isfinite(rms)) continue;
    const double risk = flip_risk(of_a->second->top1_logit - of_a->second->top2_logit, rms);
    sum += risk;
    ++counted;
    if (out.riskiest >= 0 && risk <= out.largest_risk) continue;
    out.largest_risk = risk;
    out.riskiest = of_b.position;
  }
  if (out.positions == 0) return std::nullopt;
  out.mean_risk = counted == 0 ? 0 : sum / counted;
  return out;
}

}  // namespace greta::isolate
