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

#if HWY_TARGET <= HWY_AVX2
#include "ops/cpu/lanes_highway.h"
#else
#include "ops/cpu/lanes_scalar.h"
#endif

#define GRETA_LANES_INLINE HWY_INLINE
#include "ops/cpu/lanes_math.h"
#undef GRETA_LANES_INLINE

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
