// What one pass over a row leaves for its fingerprint, on every backend.
#pragma once

#include <cstdint>

namespace greta {

struct Hash128 {
  std::uint64_t lo = 0;
  std::uint64_t hi = 0;
  friend bool operator==(const Hash128&, const Hash128&) = default;
};

/// Hash sums, and sums and counts for the statistics: in float64 over finite elements (min > max where there is none).
struct RowSums {
  Hash128 hash;
  double min = 0, max = 0, sum = 0, squares = 0, abs_sum = 0;
  std::int64_t finite = 0, nan = 0, inf = 0, zero = 0;
};

}  // namespace greta
