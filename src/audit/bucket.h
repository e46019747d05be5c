// The buckets of the report B3.42: which part of an op is to blame.
#pragma once

#include <cstdint>
#include <string_view>

namespace greta::audit {

enum class Bucket : std::uint8_t {
  none,             // nothing is wrong
  input_selection,  // the op read another row, stage or slot than was due
  norm_stats,       // epsilon, mean, the sum of squares
  weight_layout,    // another tensor, another order of its elements, another scale of its blocks
  kernel_math,      // right operands, wrong arithmetic
  precision_route,  // right operands and arithmetic in fewer bits than the route declares
};
/// "NONE", "A_input_selection", "B_norm_stats", "C_weight_layout", "D_kernel_math", "E_precision_route".
std::string_view name(Bucket bucket);
/// Of a hypothesis or a class; `kernel_math` for one that is none of the others', `none` for an empty name.
Bucket bucket_of(std::string_view hypothesis);

}  // namespace greta::audit
