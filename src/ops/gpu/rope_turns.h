// Cosines and sines for the rope kernels, made on the host: the same bits as route `reference` of the CPU uses.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "ops/ops.h"

namespace greta::gpu {

/// (cos, sin) of every pair of every row, [positions.size(), n_rot/2, 2].
std::vector<float> rope_turns(const RopeParams& params, std::span<const std::int32_t> positions);

}  // namespace greta::gpu
