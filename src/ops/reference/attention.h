// Operands of the attention kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace greta::reference {

/// One KV head of the first n slots of a sequence.
struct HeadSlots {
  const std::byte* const* slots;
  DType dtype;          // f64, f32 or f16
  std::int64_t offset;  // bytes of the head in a slot
  std::int64_t head_dim;
  std::int64_t n;
};

}  // namespace greta::reference
