// The arithmetic of spoiling one stored element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "core/dtype.h"

namespace greta {

/// One of: NaN; x * (1 + rel); x + add; else `ulp` steps away from zero, of the stored type.
struct Spoil {
  bool nan = false;
  std::optional<double> rel = {}, add = {};
  std::int64_t ulp = 1;
};

/// Spoils element `index` of a row: by ULPs never across zero and never past the largest finite value; else rounded. dtype:
/// f64, f32, f16, q8_f32 and q8_0. One ULP of a block type is one code away from zero, and of a saturated code (+-127) or a
/// block without scale one ULP of the scale, which moves the block's other elements too; NaN is that of a whole block. By
/// value, a code of q8_f32 goes to the nearest, one code away at least; a block of q8_0 is quantised again. Throws Error for
/// others.
void spoil(const Spoil& how, std::byte* row, std::int64_t index, DType dtype);

/// Elements of two equally long rows whose bits differ (of block types: the bits of their values).
std::int64_t changed_elements(const std::vector<std::byte>& before, const std::vector<std::byte>& after, DType dtype);

}  // namespace greta
