// Operands of the attention kernels.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace greta::reference {

/// One KV head of the slots of a sequence.
struct HeadSlots {
  const std::byte* const* slots;
  DType dtype;          // f64, f32, f16 or q8_0
  std::int64_t offset;  // bytes of the head in a slot
  std::int64_t head_dim;
};

/// One query head of one row, which sees slots 0..n-1. qk: in = query [head_dim], out = scores [n]; pv: in = probabilities [n],
/// out = mixture [head_dim].
struct Query {
  const float* in;
  float* out;
  std::int64_t n;
};

/// Query heads that share a KV head are computed together, so that a slot is loaded once for all of them: up to this many.
inline constexpr int kTileQueries = 4;

}  // namespace greta::reference
