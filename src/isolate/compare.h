// Measures every pair of an alignment. A mismatch is data: how bad it is, the verdict decides.
#pragma once

#include <functional>
#include <optional>
#include <vector>

#include "isolate/align.h"
#include "isolate/metrics.h"
#include "isolate/outcome.h"

namespace greta::isolate {

/// Measures one pair of rows. Replaced only in tests (a comparator that always says equal must not pass).
using Comparator = std::function<Difference(const StageRecord&, const StageRecord&)>;

struct Finding {
  RecordPair pair;
  Difference difference;
  bool above = false;     // the thresholds
  bool nan_in_a = false;  // and none in B: says something against the reference only
};

struct Comparison {
  KeyCounts counts;                     // `expected` and `compared` as aligned; rereads count with their own differences
  std::vector<Finding> mismatches;      // rows that are not bit-equal, in the order of the pairs
  std::optional<RecordPair> nan_both;   // the first key with NaN on both sides
  std::optional<RecordPair> zero_both;  // the first key of nothing but zeros on both sides
  std::vector<Stage> stages;            // that were compared, in the order of data
};

Comparison compare(const Alignment& alignment, const Thresholds& thresholds, const Comparator& comparator);

}  // namespace greta::isolate
