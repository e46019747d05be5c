#include "isolate/first_mismatch.h"

#include <algorithm>
#include <array>

namespace greta::isolate {

bool can_cause(const RecordPair& left, const RecordPair& right) {
  const Key from = key_of(*left.b);
  const Key to = key_of(*right.b);
  if (left.b->step > right.b->step || from.position > to.position || from.layer > to.layer) return false;
  return from.layer < to.layer || from.stage <= to.stage;
}

Ranking rank(const Comparison& comparison, bool bit_equality) {
  Ranking ranking;
  std::array<bool, kStageCount> inherits{};
  const auto& mismatches = comparison.mismatches;
  for (std::size_t i = 0; i < mismatches.size(); ++i) {
    const Finding& finding = mismatches[i];
    if (!bit_equality && !finding.above && !finding.nan_in_a) {
      if (!ranking.drift && !ranking.headline) ranking.drift = i;
      continue;
    }
    // In the order of the pairs a cause comes before its effects, so the minimal ones found so far suffice.
    const bool caused = std::any_of(ranking.minimal.begin(), ranking.minimal.end(),
                                    [&](std::size_t earlier) { return can_cause(mismatches[earlier].pair, finding.pair); });
    if (caused) {
      ++ranking.inherited;
      inherits[static_cast<std::size_t>(finding.pair.b->stage)] = true;
      continue;
    }
    ranking.minimal.push_back(i);
    const bool tainted = comparison.nan_both && can_cause(*comparison.nan_both, finding.pair);
    if (!ranking.headline && !finding.nan_in_a && !tainted) ranking.headline = i;
  }
  for (const Stage stage : all_stages())
    if (inherits[static_cast<std::size_t>(stage)]) ranking.inherited_stages.push_back(stage);
  return ranking;
}

}  // namespace greta::isolate
