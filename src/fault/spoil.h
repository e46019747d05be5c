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

/// Spoils element `index` of a row: by ULPs never across zero and never past the largest finite value; else rounded. dtype: f64,
/// f32, f16, q8_f32, whose codes are stepped (away from zero, to +-127) or chosen nearest, and whose NaN is that of a whole
/// block. Throws Error for others.
void spoil(const Spoil& how, std::byte* row, std::int64_t index, DType dtype);

/// Elements of two equally long rows whose bits differ.
std::int64_t changed_elements(const std::vector<std::byte>& before, const std::vector<std::byte>& after, DType dtype);

}  // namespace greta
