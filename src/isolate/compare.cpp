#include "isolate/compare.h"

#include <array>

namespace greta::isolate {

Comparison compare(const Alignment& alignment, const Thresholds& thresholds, const Comparator& comparator) {
  Comparison result;
  result.counts.expected = alignment.expected;
  result.counts.compared = alignment.compared;
  std::array<bool, kStageCount> seen{};
  for (const RecordPair& pair : alignment.pairs) {
    seen[static_cast<std::size_t>(pair.a->stage)] = true;
    const Difference d = comparator(*pair.a, *pair.b);
    if (d.all_zero && !result.zero_both) result.zero_both = pair;
    if (d.nan_a > 0 && d.nan_b > 0) {
      if (!result.nan_both) result.nan_both = pair;
      continue;  // nothing can be said of this key in either direction
    }
    if (d.bit_equal) {
      ++result.counts.bit_equal;
      if (!d.hashed) ++result.counts.unhashed;
      continue;
    }
    Finding finding{pair, d, above(thresholds, pair.a->stage, d), d.nan_a > 0};
    ++(finding.above ? result.counts.above : result.counts.drifted);
    result.mismatches.push_back(std::move(finding));
  }
  for (const Stage stage : all_stages())
    if (seen[static_cast<std::size_t>(stage)]) result.stages.push_back(stage);
  return result;
}

}  // namespace greta::isolate
