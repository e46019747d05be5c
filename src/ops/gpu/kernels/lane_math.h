// The functions of the reference route's lanes (ops/cpu/lanes_math.h) for a thread, which is one lane: the same operations in
// the same order, so the same bits as on the CPU.
#pragma once

#include "ops/cpu/lanes_common.h"
#include "ops/gpu/portable.h"

namespace greta::gpu::GRETA_GPU_TARGET::lane {

struct Lanes {
  float v;
};
GRETA_DEVICE Lanes set1(float x) { return {x}; }
GRETA_DEVICE Lanes zero() { return {0.0f}; }
GRETA_DEVICE Lanes add(Lanes a, Lanes b) { return {a.v + b.v}; }
GRETA_DEVICE Lanes sub(Lanes a, Lanes b) { return {a.v - b.v}; }
GRETA_DEVICE Lanes mul(Lanes a, Lanes b) { return {a.v * b.v}; }
GRETA_DEVICE Lanes div(Lanes a, Lanes b) { return {a.v / b.v}; }
GRETA_DEVICE Lanes fma(Lanes a, Lanes b, Lanes c) { return {GRETA_GPU_TARGET::fma(a.v, b.v, c.v)}; }
GRETA_DEVICE Lanes select_gt(Lanes a, Lanes b, Lanes yes, Lanes no) { return a.v > b.v ? yes : no; }
GRETA_DEVICE Lanes select_nan(Lanes a, Lanes yes, Lanes no) { return a.v != a.v ? yes : no; }
/// 2^n for integral n in -126..127.
GRETA_DEVICE Lanes exp2_int(Lanes n) {
  return {float_of(static_cast<std::uint32_t>(static_cast<std::int32_t>(n.v) + 127) << 23)};
}

#define GRETA_LANES_INLINE GRETA_DEVICE
#include "ops/cpu/lanes_math.h"
#undef GRETA_LANES_INLINE

}  // namespace greta::gpu::GRETA_GPU_TARGET::lane

namespace greta::gpu::GRETA_GPU_TARGET {

GRETA_DEVICE float lane_exp(float x) { return lane::exp({x}).v; }
GRETA_DEVICE float lane_tanh(float x) { return lane::tanh({x}).v; }
GRETA_DEVICE float lane_round_even(float x) { return lane::round_even({x}).v; }

}  // namespace greta::gpu::GRETA_GPU_TARGET
