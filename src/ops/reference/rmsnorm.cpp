// RMSNorm: out = (x * s) * w with s = 1 / sqrt(mean + eps), mean = (16-lane sum of fma(x, x, .)) / n; all in F32, eps rounded
// to F32 first. A group of weight.n_cols columns at a time.
#include "ops/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/reference/rmsnorm.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which flips its guard.
#include "ops/cpu/lanes.h"
#include "ops/reference/reference.h"

HWY_BEFORE_NAMESPACE();
namespace greta::HWY_NAMESPACE {

void rmsnorm_row(const float* x, const float* weight, std::int64_t n, float eps, float* out) {
  const std::int64_t whole = n / kLanes * kLanes;
  Lanes sum = zero();
  for (std::int64_t i = 0; i < whole; i += kLanes) {
    const Lanes v = load(x + i);
    sum = fma(v, v, sum);
  }
  if (whole < n) {
    const Lanes v = load_first(x + whole, n - whole);
    sum = fma(v, v, sum);
  }
  const float mean = reduce_add(sum) / static_cast<float>(n);
  const float scale = 1.0f / std::sqrt(mean + eps);
  const Lanes scales = set1(scale);
  for (std::int64_t i = 0; i < whole; i += kLanes) store(mul(mul(load(x + i), scales), load(weight + i)), out + i);
  for (std::int64_t i = whole; i < n; ++i) out[i] = x[i] * scale * weight[i];
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <vector>

#include "core/blocks.h"

namespace greta::reference {
namespace {
constexpr auto kRow = GRETA_PER_ISA(rmsnorm_row);
constexpr std::int64_t kGrain = 1 << 14;  // elements below which a second thread costs more than it gives
}  // namespace

void rmsnorm(const CpuContext& context, const TensorView& x, const WeightView& weight, double eps, const TensorView& out) {
  const std::int64_t n = weight.n_cols;
  const std::int64_t groups = x.n_cols / n;
  std::vector<float> gain(static_cast<std::size_t>(n));
  dequantize_row(weight.dtype, weight.data, n, gain.data());
  const auto row = kRow[context.isa];
  context.pool.for_ranges(x.n_rows * groups, kGrain / n, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const std::int64_t r = i / groups;
      const std::int64_t first = i % groups * n;
      row(x.row_as<const float>(r) + first, gain.data(), n, static_cast<float>(eps), out.row_as<float>(r) + first);
    }
  });
}

}  // namespace greta::reference
#endif
