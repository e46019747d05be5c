#include "ops/gpu/sketch_order.h"

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/fingerprint_mix.h"
#include "ops/gpu/kernels.h"

namespace greta::gpu {
namespace {

constexpr std::uint32_t kNegative = 0x80000000u;

}  // namespace

SketchOrder sketch_order(std::int64_t elements) {
  if (elements < 0 || elements > std::int64_t{1} << 31)
    fail("sketch table of {} elements: must be 0..2^31; shorten the rows or print them without a sketch", elements);
  SketchOrder table;
  const std::int64_t tiles = (elements + kSketchTile - 1) / kSketchTile;
  table.elements = tiles * kSketchTile;
  table.begin.push_back(0);
  for (std::int64_t tile = 0; tile < tiles; ++tile) {
    std::array<std::vector<std::uint32_t>, kSketchWidth> lists;
    std::size_t longest = 0;
    for (std::uint32_t i = 0; i < kSketchTile; ++i) {
      const SketchPlace place = sketch_place(tile * kSketchTile + i);
      std::vector<std::uint32_t>& list = lists[static_cast<std::size_t>(place.bucket)];
      list.push_back(i | (place.sign < 0 ? kNegative : 0u));
      longest = std::max(longest, list.size());
    }
    longest = (longest + kSketchRound - 1) / kSketchRound * kSketchRound;
    for (std::size_t j = 0; j < longest; ++j)
      for (const std::vector<std::uint32_t>& list : lists) table.order.push_back(j < list.size() ? list[j] : kSketchTile);
    table.begin.push_back(table.begin.back() + static_cast<std::uint32_t>(longest));
  }
  return table;
}

}  // namespace greta::gpu
