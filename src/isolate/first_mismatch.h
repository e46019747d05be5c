// Which mismatches came first, and which merely inherit.
//
// A row can depend only on rows of positions and layers not after its own, computed in steps not after its own, and, within one
// layer, on stages before its own. So m can have caused m' only if no coordinate of m is after m'. The converse does not hold
// (ffn_norm of position 3 does not reach mlp_out of position 5 in the same layer): two independent faults that happen to lie in
// order are listed as one. That is the side to err on, as one fault at all positions would otherwise be listed once a position.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "isolate/compare.h"

namespace greta::isolate {

/// Whether a mismatch at `left` can have caused one at `right`, by arm B's step, position, layer and stage.
bool can_cause(const RecordPair& left, const RecordPair& right);

struct Ranking {
  std::vector<std::size_t>
      minimal;  // into Comparison::mismatches, in the order of the pairs; those that nothing listed can cause
  std::optional<std::size_t> headline;  // the first minimal one that speaks against arm B
  std::optional<std::size_t>
      drift;  // the first row not bit-equal and not listed, where it lies before the headline or there is none
  std::int64_t inherited = 0;
  std::vector<Stage> inherited_stages;  // in the order of data
};

/// `bit_equality`: every row that is not bit-equal counts; else only those above the thresholds, and NaN in A.
/// Mismatches that a NaN on both sides can have caused speak against nobody.
Ranking rank(const Comparison& comparison, bool bit_equality);

}  // namespace greta::isolate
