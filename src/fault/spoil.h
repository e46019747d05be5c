// The arithmetic of spoiling one stored element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/dtype.h"
#include "fault/spec.h"

namespace greta {

/// Applies `perturb` (ulp: away from zero, of the stored type, never a sign flip, never past the largest finite value;
/// rel: x * (1 + rel), add: x + add, both rounded) or `nan` to the element. Returns whether its bits changed. dtype: f64, f32, f16.
bool spoil(const FaultSpec& fault, std::byte* element, DType dtype);

/// Elements of two equally long rows whose bits differ.
std::int64_t changed_elements(const std::vector<std::byte>& before, const std::vector<std::byte>& after, DType dtype);

}  // namespace greta
