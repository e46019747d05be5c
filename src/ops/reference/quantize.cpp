// Activations to 8-bit blocks, as core/activation_blocks.h defines them, sixteen elements at a time.
#include "ops/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/reference/quantize.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which flips its guard.
#include <limits>

#include "core/activation_blocks.h"
#include "ops/cpu/lanes.h"
#include "ops/reference/reference.h"

HWY_BEFORE_NAMESPACE();
namespace greta::HWY_NAMESPACE {

HWY_INLINE Lanes magnitude(Lanes a) { return select_gt(zero(), a, sub(zero(), a), a); }

/// x / d, rounded half to even and held to -127..127, as bytes.
HWY_INLINE void store_codes(Lanes x, Lanes d, std::int8_t* q) {
  const Lanes high = set1(127.0f), low = set1(-127.0f);
  Lanes y = div(x, d);
  y = select_gt(y, high, high, y);
  y = select_gt(low, y, low, y);
  float codes[kLanes];
  store(round_even(y), codes);
  for (int i = 0; i < kLanes; ++i) q[i] = static_cast<std::int8_t>(codes[i]);
}

/// `n` elements, in whole blocks.
void quantize_range(const float* x, std::int64_t n, BlockQ8F32* out) {
  for (std::int64_t b = 0; b < n / kActivationBlock; ++b) {
    const Lanes first = load(x + b * kActivationBlock), second = load(x + b * kActivationBlock + kLanes);
    BlockQ8F32 block{};
    const float poison = reduce_add(fma(second, zero(), mul(first, zero())));  // 0, or NaN where an element is not finite
    if (poison != 0.0f) {
      block.d = std::numeric_limits<float>::quiet_NaN();
    } else {
      block.d = reduce_max(max(magnitude(first), magnitude(second))) / 127.0f;
      if (block.d != 0.0f) {
        store_codes(first, set1(block.d), block.q);
        store_codes(second, set1(block.d), block.q + kLanes);
      } else {
        block.d = 0.0f;  // never -0, which a block of negative zeros would give
      }
    }
    out[b] = block;
  }
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace greta::reference {
namespace {
constexpr auto kQuantize = GRETA_PER_ISA(quantize_range);
constexpr std::int64_t kColumns = 2048;  // of a row, in one call of the kernel; a multiple of the block
constexpr std::int64_t kGrain = 8;       // such pieces a chunk
}  // namespace

void quantize(const CpuContext& context, const TensorView& x, const TensorView& out) {
  const std::int64_t pieces = (x.n_cols + kColumns - 1) / kColumns;
  context.pool.for_ranges(x.n_rows * pieces, kGrain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t r = i / pieces;
      const std::int64_t column = i % pieces * kColumns;
      kQuantize[context.isa](x.row_as<const float>(r) + column, std::min(kColumns, x.n_cols - column),
                             out.row_as<BlockQ8F32>(r) + column / kActivationBlock);
    }
  });
}

}  // namespace greta::reference
#endif
