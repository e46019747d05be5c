// The table from which a kernel adds a sketch: every bucket's elements in order (ops/gpu/kernels.h, FingerprintArgs).
#pragma once

#include <cstdint>
#include <vector>

namespace greta::gpu {

struct SketchOrder {
  std::vector<std::uint32_t> order;
  std::vector<std::uint32_t> begin;  // [tiles + 1]
  std::int64_t elements = 0;         // a multiple of kSketchTile
};
/// Of at least `elements` elements. Throws Error beyond 2^31 of them.
SketchOrder sketch_order(std::int64_t elements);

}  // namespace greta::gpu
