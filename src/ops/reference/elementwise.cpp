// Elementwise ops: add is one rounding; act_mul is (gate / (1 + exp(-v))) * up with v = gate for SiLU and 2u for GELU's tanh
// form; softcap is cap * tanh(x / cap). Each operation is rounded.
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

/// gate / (1 + exp(-v)) * up.
HWY_INLINE Lanes gated(Lanes gate, Lanes v, Lanes up) { return mul(div(gate, add(set1(1.0f), exp(sub(zero(), v)))), up); }

/// GELU: 2u = sqrt(8/pi) * (x + 0.044715 x^3) = x * (sqrt(8/pi) + sqrt(8/pi) * 0.044715 * x^2).
template <Activation kAct>
HWY_INLINE Lanes act_mul_lanes(Lanes gate, Lanes up) {
  if constexpr (kAct == Activation::silu) return gated(gate, gate, up);
  return gated(gate, mul(gate, fma(mul(gate, gate), set1(0.071354816f), set1(1.5957691f))), up);
}

template <Activation kAct>
HWY_INLINE void mul_range(const float* gate, const float* up, std::int64_t n, float* out) {
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(act_mul_lanes<kAct>(load(gate + i), load(up + i)), out + i);
  if (i < n) store_first(act_mul_lanes<kAct>(load_first(gate + i, n - i), load_first(up + i, n - i)), out + i, n - i);
}

void silu_mul_range(const float* gate, const float* up, std::int64_t n, float* out) {
  mul_range<Activation::silu>(gate, up, n, out);
}
void gelu_mul_range(const float* gate, const float* up, std::int64_t n, float* out) {
  mul_range<Activation::gelu_tanh>(gate, up, n, out);
}

void softcap_range(const float* x, std::int64_t n, float cap, float* out) {
  const Lanes caps = set1(cap);
  std::int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) store(mul(caps, tanh(div(load(x + i), caps))), out + i);
  if (i < n) store_first(mul(caps, tanh(div(load_first(x + i, n - i), caps))), out + i, n - i);
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace greta::reference {
namespace {

using Range = void (*)(const float* a, const float* b, std::int64_t n, float* out);
constexpr auto kAdd = GRETA_PER_ISA(add_range);
constexpr auto kSiluMul = GRETA_PER_ISA(silu_mul_range);
constexpr auto kGeluMul = GRETA_PER_ISA(gelu_mul_range);
constexpr auto kSoftcap = GRETA_PER_ISA(softcap_range);
constexpr std::int64_t kColumns = 2048;  // of a row, in one call of a kernel; a multiple of the lanes
constexpr std::int64_t kAddGrain = 64;   // such pieces a chunk
constexpr std::int64_t kExpGrain = 4;

/// Calls piece(row, first column, columns) for pieces of all rows, in parallel.
template <class Piece>
void for_pieces(const CpuContext& context, std::int64_t grain, const TensorView& out, const Piece& piece) {
  const std::int64_t pieces = (out.n_cols + kColumns - 1) / kColumns;
  context.pool.for_ranges(out.n_rows * pieces, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t column = i % pieces * kColumns;
      piece(i / pieces, column, std::min(kColumns, out.n_cols - column));
    }
  });
}

void elementwise(const CpuContext& context, Range range, std::int64_t grain, const TensorView& a, const TensorView& b,
                 const TensorView& out) {
  for_pieces(context, grain, out, [&](std::int64_t r, std::int64_t column, std::int64_t n) {
    range(a.row_as<const float>(r) + column, b.row_as<const float>(r) + column, n, out.row_as<float>(r) + column);
  });
}

}  // namespace

void add(const CpuContext& context, const TensorView& a, const TensorView& b, const TensorView& out) {
  elementwise(context, kAdd[context.isa], kAddGrain, a, b, out);
}

void act_mul(const CpuContext& context, Activation act, const TensorView& gate, const TensorView& up, const TensorView& out) {
  elementwise(context, act == Activation::silu ? kSiluMul[context.isa] : kGeluMul[context.isa], kExpGrain, gate, up, out);
}

void softcap(const CpuContext& context, const TensorView& x, double cap, const TensorView& out) {
  for_pieces(context, kExpGrain, out, [&](std::int64_t r, std::int64_t column, std::int64_t n) {
    kSoftcap[context.isa](x.row_as<const float>(r) + column, n, static_cast<float>(cap), out.row_as<float>(r) + column);
  });
}

}  // namespace greta::reference
#endif
