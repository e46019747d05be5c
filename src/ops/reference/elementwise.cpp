// Elementwise ops: add is one rounding; silu_mul is (gate / (1 + exp(-gate))) * up, each operation rounded.
#include "ops/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/reference/elementwise.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which flips its guard.
#include "ops/cpu/lanes.h"
#include "ops/reference/reference.h"

HWY_BEFORE_NAMESPACE();
namespace greta::HWY_NAMESPACE {

void add_range(const float* a, const float* b, std::int64_t n, float* out) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(add(load(a + i), load(b + i)), out + i);
  for (; i < n; ++i) out[i] = a[i] + b[i];
}

HWY_INLINE Lanes silu_mul_lanes(Lanes gate, Lanes up) { return mul(div(gate, add(set1(1.0f), exp(sub(zero(), gate)))), up); }

void silu_mul_range(const float* gate, const float* up, std::int64_t n, float* out) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(silu_mul_lanes(load(gate + i), load(up + i)), out + i);
  if (i < n) store_first(silu_mul_lanes(load_first(gate + i, n - i), load_first(up + i, n - i)), out + i, n - i);
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace greta::reference {
namespace {

using Range = void (*)(const float* a, const float* b, std::int64_t n, float* out);
constexpr auto kAdd = GRETA_PER_ISA(add_range);
constexpr auto kSiluMul = GRETA_PER_ISA(silu_mul_range);
constexpr std::int64_t kColumns = 2048;  // of a row, in one call of a kernel; a multiple of the lanes
constexpr std::int64_t kAddGrain = 64;   // such pieces a chunk
constexpr std::int64_t kSiluGrain = 4;

void elementwise(const CpuContext& context, Range range, std::int64_t grain, const TensorView& a, const TensorView& b,
                 const TensorView& out) {
  const std::int64_t pieces = (out.n_cols + kColumns - 1) / kColumns;
  context.pool.for_ranges(out.n_rows * pieces, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t r = i / pieces;
      const std::int64_t column = i % pieces * kColumns;
      range(a.row_as<const float>(r) + column, b.row_as<const float>(r) + column, std::min(kColumns, out.n_cols - column),
            out.row_as<float>(r) + column);
    }
  });
}

}  // namespace

void add(const CpuContext& context, const TensorView& a, const TensorView& b, const TensorView& out) {
  elementwise(context, kAdd[context.isa], kAddGrain, a, b, out);
}

void silu_mul(const CpuContext& context, const TensorView& gate, const TensorView& up, const TensorView& out) {
  elementwise(context, kSiluMul[context.isa], kSiluGrain, gate, up, out);
}

}  // namespace greta::reference
#endif
