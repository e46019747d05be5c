// What the routes of kv_shift share: slots read, turned by the route's rope, and stored.
#pragma once

#include <functional>
#include <span>

#include "ops/ops.h"

namespace greta {

/// Turns the rows of x, heads beside each other, by positions[r] each.
using RopeKernel = std::function<void(const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
                                      const TensorView& out)>;

/// kv_shift with K widened to `activations` (f32 or f64). A slot that does not turn is copied byte for byte: storing it anew
/// could round it again.
void shift_slots(const OpSite& site, const KvShift& shift, KvView& kv, DType activations, const RopeKernel& rope);

}  // namespace greta
