// F32 data beside 16-bit operands on matrix cores: a number is split into terms of the other operand's type, and their products
// are summed. K and V lie in the cache as f16 or bf16; queries and probabilities are F32 and keep their digits this way.
//   f16: x * 2^s = high + low * 2^-11, each rounded to nearest: 22 bits of x where |x| * 2^s is 2^-14 and more (below it, an
//        error of 2^-36 at most). What has no place in it, |x| * 2^s above 65504 and NaN, is the kernel's to compute otherwise.
//   bf16: x = t0 + t1 + t2, exact for numbers of 2^-100 and more; huge ones, infinities and NaN are left to the kernel too.
// The products of the terms after the first are summed on their own.
#pragma once

#include "ops/gpu/kernels/numbers.h"
#include "ops/gpu/kernels/tile.h"

namespace greta::gpu::GRETA_GPU_TARGET {

template <DType kType>
inline constexpr int kTerms = kType == DType::f16 ? 2 : 3;

/// Two numbers rounded to kType, the first in the low half. Of a NaN, some NaN.
template <DType kType>
GRETA_DEVICE std::uint32_t pack_rounded(float first, float second) {
#if defined(__CUDACC__)
  std::uint32_t word;
  if constexpr (kType == DType::f16)
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  else
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(second), "f"(first));
  return word;
#elif defined(__HIP__)
  if constexpr (kType == DType::f16) {
    return static_cast<std::uint32_t>(__builtin_bit_cast(std::uint16_t, static_cast<_Float16>(first))) |
           static_cast<std::uint32_t>(__builtin_bit_cast(std::uint16_t, static_cast<_Float16>(second))) << 16;
  } else {
    return static_cast<std::uint32_t>(float_to_bfloat(first)) | static_cast<std::uint32_t>(float_to_bfloat(second)) << 16;
  }
#else
  const auto round = [](float x) { return kType == DType::f16 ? f32_to_f16(x) : f32_to_bf16(x); };
  return static_cast<std::uint32_t>(round(first)) | static_cast<std::uint32_t>(round(second)) << 16;
#endif
}
/// The number in a half of a word.
template <DType kType>
GRETA_DEVICE float low_number(std::uint32_t word) {
  return kType == DType::f16 ? half_to_float(static_cast<std::uint16_t>(word & 0xffffu)) : float_of(word << 16);
}
template <DType kType>
GRETA_DEVICE float high_number(std::uint32_t word) {
  return kType == DType::f16 ? half_to_float(static_cast<std::uint16_t>(word >> 16)) : float_of(word & 0xffff0000u);
}

inline constexpr float kLowTerm = 2048.0f;  // low terms of f16 are kept so many times as large, so that they are not subnormal

/// How numbers are split: f16 takes them times `up`, a power of two.
struct SplitScale {
  float up, down;  // 2^s, 2^-s
  float most;      // magnitudes up to here can be split
};
template <DType kType>
GRETA_HOST_DEVICE constexpr SplitScale split_scale(float up) {
  if (kType == DType::f16) return {up, 1 / up, 65504.0f / up};
  return {1.0f, 1.0f, 0x1p126f};
}
GRETA_DEVICE bool can_be_split(float x, const SplitScale& scale) { return x <= scale.most && x >= -scale.most; }

/// Two numbers as packed terms.
template <DType kType>
GRETA_DEVICE void split_two(float x, float y, const SplitScale& scale, std::uint32_t (&term)[kTerms<kType>]) {
  if constexpr (kType == DType::f16) {
    x = x * scale.up;
    y = y * scale.up;
    term[0] = pack_rounded<kType>(x, y);
    term[1] = pack_rounded<kType>((x - low_number<kType>(term[0])) * kLowTerm, (y - high_number<kType>(term[0])) * kLowTerm);
  } else {
    GRETA_UNROLL
    for (int t = 0; t < kTerms<kType>; ++t) {
      term[t] = pack_rounded<kType>(x, y);
      x = x - low_number<kType>(term[t]);
      y = y - high_number<kType>(term[t]);
    }
  }
}

/// Sums of products with the first term, and with the others.
struct TermSums {
  Results first[1], others[1];
};
/// sum += a * b over 32 inputs, b in terms.
template <DType kType>
GRETA_DEVICE void multiply_terms(TermSums& sum, const TileA& a, const TileB (&b)[kTerms<kType>]) {
  const TileB first[1] = {b[0]};
  multiply<kType>(sum.first, a, first);
  GRETA_UNROLL
  for (int t = 1; t < kTerms<kType>; ++t) {
    const TileB other[1] = {b[t]};
    multiply<kType>(sum.others, a, other);
  }
}
/// Result i, scaled down again.
template <DType kType>
GRETA_DEVICE float term_sum(const TermSums& sum, int i, const SplitScale& scale) {
  if constexpr (kType == DType::f16) return (sum.first[0].at[i] + sum.others[0].at[i] * (1 / kLowTerm)) * scale.down;
  return sum.first[0].at[i] + sum.others[0].at[i];
}

/// Byte of piece `piece` of row `row` in shared memory, rows of `pieces` pieces, a multiple of 8. The pieces of a row change
/// places so that eight lanes that read or write together meet different banks: in one row, in two, in eight that follow each
/// other, or in every fourth of sixteen at two pieces each.
GRETA_DEVICE int staged_at(int row, int piece, int pieces) {
  const int swap = ((row & 1) << 2 | ((row >> 1) & 3)) ^ ((row >> 1) & 4);
  return (row * pieces + (piece ^ swap)) * kPieceBytes;
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
