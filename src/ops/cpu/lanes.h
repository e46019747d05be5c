// The lane type of the reference route, for the target that Highway is compiling: 16 virtual float lanes whatever the vector
// width.
//
// Every operation is one IEEE operation a lane (or an exact conversion), every fused multiply-add is explicit, and sums over
// lanes go through one fixed tree. So a kernel written once over `Lanes` gives the same bits on every instruction set. Included
// inside foreach_target.h files only, so the guard flips with the target.

#if defined(GRETA_OPS_CPU_LANES_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRETA_OPS_CPU_LANES_H_
#undef GRETA_OPS_CPU_LANES_H_
#else
#define GRETA_OPS_CPU_LANES_H_
#endif

#include <hwy/highway.h>

#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <utility>

#include "core/blocks.h"
#include "core/dtype.h"
#include "core/half.h"
#include "ops/cpu/lanes_common.h"

HWY_BEFORE_NAMESPACE();
namespace greta::HWY_NAMESPACE {

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
#include "ops/cpu/lanes_highway.h"
#else
#include "ops/cpu/lanes_scalar.h"
#endif

/// The larger of each lane; b where a is NaN.
HWY_INLINE Lanes max(Lanes a, Lanes b) { return select_gt(a, b, a, b); }

/// The largest lane. No lane may be NaN.
HWY_INLINE float reduce_max(Lanes a) {
  float lanes[kLanes];
  store(a, lanes);
  float largest = lanes[0];
  for (int i = 1; i < kLanes; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
  return largest;
}

/// The first n floats of p, zeros after them.
HWY_INLINE Lanes load_first(const float* p, std::int64_t n) {
  float padded[kLanes] = {};
  std::memcpy(padded, p, static_cast<std::size_t>(n) * sizeof(float));
  return load(padded);
}
HWY_INLINE void store_first(Lanes a, float* p, std::int64_t n) {
  float padded[kLanes];
  store(a, padded);
  std::memcpy(p, padded, static_cast<std::size_t>(n) * sizeof(float));
}

/// Rounds to the nearest integer, ties to even; |a| <= 2^22. Adding 1.5 * 2^23 leaves no bits below the unit.
HWY_INLINE Lanes round_even(Lanes a) {
  const Lanes magic = set1(12582912.0f);
  return sub(add(a, magic), magic);
}

/// e^x, at most 1.0 ULP from the truth (tests/ops/math_test.cpp), results below the normal range rounded once; NaN for NaN.
/// x = n ln 2 + r with ln 2 in two floats (Cody & Waite), |r| <= ln(2)/2, Taylor to r^7/7!, whose rest is below 2^-27.
HWY_INLINE Lanes exp(Lanes x) {
  const Lanes low = set1(-105.0f);  // below: 0
  const Lanes high = set1(90.0f);   // above: infinity
  Lanes y = select_gt(low, x, low, x);
  y = select_gt(y, high, high, y);
  y = select_nan(x, zero(), y);
  const Lanes n = round_even(mul(y, set1(1.44269504f)));
  Lanes r = fma(n, set1(-kLn2High), y);
  r = fma(n, set1(-kLn2Low), r);
  Lanes p = set1(1.0f / 5040.0f);
  p = fma(p, r, set1(1.0f / 720.0f));
  p = fma(p, r, set1(1.0f / 120.0f));
  p = fma(p, r, set1(1.0f / 24.0f));
  p = fma(p, r, set1(1.0f / 6.0f));
  p = fma(p, r, set1(0.5f));
  p = fma(mul(r, r), p, r);
  const Lanes e = add(p, set1(1.0f));
  // In two steps, because n goes from -151 to 130: the first is exact, the second rounds.
  const Lanes half = round_even(mul(n, set1(0.5f)));
  const Lanes scaled = mul(mul(e, exp2_int(half)), exp2_int(sub(n, half)));
  return select_nan(x, x, scaled);
}

/// Sixteen elements from element k on of a row as floats: of plain numbers, or of q8_0 (then k is a multiple of 16). Exact, but
/// for f64 (rounded half to even).
template <DType kType>
HWY_INLINE Lanes load_row(const std::byte* row, std::int64_t k) {
  if constexpr (kType == DType::f64) {
    return load_f64(row + k * 8);
  } else if constexpr (kType == DType::f32) {
    return load(reinterpret_cast<const float*>(row + k * 4));
  } else if constexpr (kType == DType::f16) {
    return load_f16(row + k * 2);
  } else if constexpr (kType == DType::q8_0) {
    const BlockQ8_0& block = reinterpret_cast<const BlockQ8_0*>(row)[k / kQuantBlock];
    return mul(load_i8(block.q + k % kQuantBlock), set1_f16(block.d));
  } else {
    static_assert(kType == DType::bf16);
    return load_bf16(row + k * 2);
  }
}

#include "ops/cpu/lanes_blocks.h"

/// Sixteen elements of a row of plain numbers or blocks of 32 as floats: half kHalf (0 or 1) of the 32 from element k, a multiple
/// of 32. As core/blocks.h defines them; f64 is rounded half to even.
template <DType kType, int kHalf>
HWY_INLINE Lanes load_half(const std::byte* row, std::int64_t k) {
  if constexpr (kIsBlockOf32<kType>) {
    return load_block_half<kHalf>(reinterpret_cast<const BlockOf<kType>*>(row)[k / kQuantBlock]);
  } else {
    return load_row<kType>(row, k + kHalf * kLanes);
  }
}

/// The last n < 16 elements of a row from element k, zeros after them. Rows of blocks have no such tail.
template <DType kType>
HWY_INLINE Lanes load_row_tail(const std::byte* row, std::int64_t k, std::int64_t n) {
  constexpr std::int64_t kSize = kType == DType::f64 ? 8 : kType == DType::f32 ? 4 : 2;
  if constexpr (kIsBlockOf32<kType>) {
    return zero();
  } else {
    alignas(8) std::byte padded[kLanes * kSize] = {};
    std::memcpy(padded, row + k * kSize, static_cast<std::size_t>(n * kSize));
    return load_row<kType>(padded, 0);
  }
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
