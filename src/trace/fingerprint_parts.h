// A fingerprint from sums that another backend made.
#pragma once

#include <cstdint>
#include <vector>

#include "core/row_sums.h"
#include "trace/record.h"

namespace greta {

/// Of a row of `count` elements: `sums` of the whole row, its first elements as float64 (may be empty), its count-sketch
/// (kSketchWidth buckets, or empty). The same as fingerprint() of the row where the sum of squares is in the range of float64,
/// which it is for every type but f64.
Fingerprint finish_fingerprint(const RowSums& sums, std::int64_t count, std::vector<double> sample, std::vector<double> sketch);

}  // namespace greta
