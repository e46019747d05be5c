// The arithmetic of spoiling one stored element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "fault/spec.h"

namespace greta {

/// Applies `perturb` (ulp: away from zero, of the stored type, never a sign flip, never past the largest finite value;
/// rel: x * (1 + rel), add: x + add, both rounded) or `nan` to element `index` of a row. Returns how many elements changed.
/// dtype: f64, f32, f16 or q8_0. Of q8_0 one ULP is one step of the element's code away from zero and, where the code is at its
/// end (127, -127) or the scale is 0, one ULP of the block's scale, which moves the whole block; rel and add store the block
/// anew by the format's reference definition; nan makes the scale NaN, which makes the whole block NaN.
std::int64_t spoil(const FaultSpec& fault, std::byte* row, std::int64_t index, DType dtype);

/// Elements of two equally long rows that differ: in their bits; of block types in their dequantised bits.
std::int64_t changed_elements(const std::vector<std::byte>& before, const std::vector<std::byte>& after, DType dtype);

}  // namespace greta
