// Weights as the lanes of a dot product read them: thread l of 16 takes element l of every 16, with the values that
// core/blocks.h defines, bit for bit. A unit is what is unpacked together: 16 elements of plain numbers, a block of 32, or a
// super-block of 256.
#pragma once

#include <string>

#include "core/blocks.h"
#include "ops/gpu/kernels/numbers.h"

namespace greta::gpu::GRETA_GPU_TARGET {

/// Groups of 16 elements of a unit.
template <DType kType>
inline constexpr int kUnitGroups = kIsSuperBlock<kType>  ? kSuperBlock / kLanes
                                   : kIsBlockOf32<kType> ? 2
                                                         : 1;

/// The levels of the IQ4 formats as bytes of words: device code has no arrays of constants.
constexpr std::uint64_t iq4_word(unsigned first) {
  std::uint64_t word = 0;
  for (unsigned i = 0; i < 8; ++i)
    word |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(kIq4Values[first + i])) << (8 * i);
  return word;
}
GRETA_DEVICE float iq4_level(int code) {
  constexpr std::uint64_t kLow = iq4_word(0), kHigh = iq4_word(8);
  const std::uint64_t word = code < 8 ? kLow : kHigh;
  return static_cast<float>(static_cast<std::int8_t>((word >> (8 * (code % 8))) & 0xff));
}

// --- blocks of 32: elements l and l + 16
// ---------------------------------------------------------------------------------------

GRETA_DEVICE void load_block(const BlockQ8_0& block, int l, float (&w)[2]) {
  const float d = half_to_float(block.d);
  w[0] = static_cast<float>(block.q[l]) * d;
  w[1] = static_cast<float>(block.q[l + 16]) * d;
}
GRETA_DEVICE void load_block(const BlockQ4_0& block, int l, float (&w)[2]) {
  const float d = half_to_float(block.d);
  const int q = block.q[l];
  w[0] = static_cast<float>((q & 15) - 8) * d;
  w[1] = static_cast<float>((q >> 4) - 8) * d;
}
GRETA_DEVICE void load_block(const BlockQ4_1& block, int l, float (&w)[2]) {
  const float d = half_to_float(block.d), m = half_to_float(block.m);
  const int q = block.q[l];
  w[0] = static_cast<float>(q & 15) * d + m;
  w[1] = static_cast<float>(q >> 4) * d + m;
}
/// Bit 4 of the codes of elements l and l + 16 of Q5_0 and Q5_1.
GRETA_DEVICE int fifth_bit(const std::uint8_t (&high)[4], int element) {
  return ((high[element / 8] >> (element % 8)) & 1) << 4;
}
GRETA_DEVICE void load_block(const BlockQ5_0& block, int l, float (&w)[2]) {
  const float d = half_to_float(block.d);
  const int q = block.q[l];
  w[0] = static_cast<float>(((q & 15) | fifth_bit(block.high, l)) - 16) * d;
  w[1] = static_cast<float>(((q >> 4) | fifth_bit(block.high, l + 16)) - 16) * d;
}
GRETA_DEVICE void load_block(const BlockQ5_1& block, int l, float (&w)[2]) {
  const float d = half_to_float(block.d), m = half_to_float(block.m);
  const int q = block.q[l];
  w[0] = static_cast<float>((q & 15) | fifth_bit(block.high, l)) * d + m;
  w[1] = static_cast<float>((q >> 4) | fifth_bit(block.high, l + 16)) * d + m;
}
GRETA_DEVICE void load_block(const BlockIQ4_NL& block, int l, float (&w)[2]) {
  const float d = half_to_float(block.d);
  const int q = block.q[l];
  w[0] = iq4_level(q & 15) * d;
  w[1] = iq4_level(q >> 4) * d;
}

// --- super-blocks: elements l, l + 16, ... l + 240
// -----------------------------------------------------------------------------

/// The low 2 bits of the codes of Q2_K and Q3_K of group g.
GRETA_DEVICE int pair_code(const std::uint8_t (&q)[64], int g, int l) {
  return (q[32 * (g / 8) + 16 * (g % 2) + l] >> (2 * (g % 8 / 2))) & 3;
}
GRETA_DEVICE void load_block(const BlockQ2_K& block, int l, float (&w)[16]) {
  const float d = half_to_float(block.d), dmin = half_to_float(block.dmin);
  GRETA_UNROLL
  for (int g = 0; g < 16; ++g) {
    const float scale = d * static_cast<float>(block.scales[g] & 15);
    const float minimum = dmin * static_cast<float>(block.scales[g] >> 4);
    w[g] = scale * static_cast<float>(pair_code(block.q, g, l)) - minimum;
  }
}
GRETA_DEVICE void load_block(const BlockQ3_K& block, int l, float (&w)[16]) {
  const float d = half_to_float(block.d);
  GRETA_UNROLL
  for (int g = 0; g < 16; ++g) {
    const int low = (block.scales[g % 8] >> (g < 8 ? 0 : 4)) & 15;
    const int high = (block.scales[8 + g % 4] >> (2 * (g / 4))) & 3;
    const float scale = d * static_cast<float>((low | (high << 4)) - 32);
    const int third = ((block.high[16 * (g % 2) + l] >> (g / 2)) & 1) << 2;
    w[g] = scale * static_cast<float>((pair_code(block.q, g, l) | third) - 4);
  }
}
/// Scale and minimum of sub-block s of Q4_K and Q5_K, as k_scales_minima() unpacks them.
GRETA_DEVICE int k_scale(const std::uint8_t (&packed)[12], int s) {
  return s < 4 ? packed[s] & 63 : (packed[s + 4] & 15) | ((packed[s - 4] >> 6) << 4);
}
GRETA_DEVICE int k_minimum(const std::uint8_t (&packed)[12], int s) {
  return s < 4 ? packed[s + 4] & 63 : (packed[s + 4] >> 4) | ((packed[s] >> 6) << 4);
}
/// The same for blocks with a plane of fifth bits (`high` not null) and without.
template <class Block>
GRETA_DEVICE void load_k_block(const Block& block, const std::uint8_t* high, int l, float (&w)[16]) {
  const float d = half_to_float(block.d), dmin = half_to_float(block.dmin);
  const int fifth[2] = {high != nullptr ? high[l] : 0, high != nullptr ? high[16 + l] : 0};
  GRETA_UNROLL
  for (int s = 0; s < 8; ++s) {
    const float scale = d * static_cast<float>(k_scale(block.scales, s));
    const float minimum = dmin * static_cast<float>(k_minimum(block.scales, s));
    GRETA_UNROLL
    for (int part = 0; part < 2; ++part) {
      const int nibble = (block.q[32 * (s / 2) + 16 * part + l] >> (4 * (s % 2))) & 15;
      const int code = nibble | (((fifth[part] >> s) & 1) << 4);
      w[2 * s + part] = scale * static_cast<float>(code) - minimum;
    }
  }
}
GRETA_DEVICE void load_block(const BlockQ4_K& block, int l, float (&w)[16]) { load_k_block(block, nullptr, l, w); }
GRETA_DEVICE void load_block(const BlockQ5_K& block, int l, float (&w)[16]) { load_k_block(block, block.high, l, w); }
GRETA_DEVICE void load_block(const BlockQ6_K& block, int l, float (&w)[16]) {
  const float d = half_to_float(block.d);
  GRETA_UNROLL
  for (int g = 0; g < 16; ++g) {
    const int in_half = g % 8;
    const int low = (block.low[64 * (g / 8) + 16 * (in_half % 4) + l] >> (4 * (in_half / 4))) & 15;
    const int high = (block.high[32 * (g / 8) + 16 * (in_half % 2) + l] >> (2 * (in_half / 2))) & 3;
    w[g] = d * static_cast<float>(block.scales[g]) * static_cast<float>((low | (high << 4)) - 32);
  }
}
GRETA_DEVICE void load_block(const BlockIQ4_XS& block, int l, float (&w)[16]) {
  const float d = half_to_float(block.d);
  GRETA_UNROLL
  for (int s = 0; s < 8; ++s) {
    const int low = (block.scales_low[s / 2] >> (4 * (s % 2))) & 15;
    const int high = (block.scales_high >> (2 * s)) & 3;
    const float scale = d * static_cast<float>((low | (high << 4)) - 32);
    const int q = block.q[16 * s + l];
    w[2 * s] = scale * iq4_level(q & 15);
    w[2 * s + 1] = scale * iq4_level(q >> 4);
  }
}

// --- any type
// ------------------------------------------------------------------------------------------------------------------

/// Unit `unit` of a row of n elements: w[g] is its element 16 g + l; 0 beyond the row's end, which only plain numbers have
/// within a unit.
template <DType kType>
GRETA_DEVICE void load_unit(const std::byte* row, std::int64_t unit, int l, std::int64_t n, float (&w)[kUnitGroups<kType>]) {
  if constexpr (kUnitGroups<kType> == 1) {
    const std::int64_t i = unit * kLanes + l;
    w[0] = i < n ? load_number(kType, row, i) : 0.0f;
  } else {
    load_block(reinterpret_cast<const BlockOf<kType>*>(row)[unit], l, w);
  }
}

template <DType...>
struct WeightTypes {};

/// Calls use(std::integral_constant<DType, type>) for a type of weights. Throws Error for others.
template <class Use>
void with_weight_type(const char* op, DType dtype, const Use& use) {
  const auto chosen = [&]<DType... kTypes>(WeightTypes<kTypes...>) {
    return ((dtype == kTypes ? (use(std::integral_constant<DType, kTypes>()), true) : false) || ...);
  };
  if (!chosen(WeightTypes<DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1,
                          DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_nl, DType::iq4_xs>()))
    launch_failed(
        {op}, ("weights of type " + std::string(name(dtype)) + " are not computed with; use one of: " + weight_dtype_names())
                  .c_str());
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
