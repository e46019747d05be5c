// The one definition of what the bytes of weights mean: block formats and their exact dequantisation. The reverse: core/quantize.h.
//
// The formats are those that GGUF files name in upper case (Q4_K is DType::q4_k). Scales d, minima m and their super-block
// forms are binary16. Every product of a scale, a sub-scale and a code below is exact in binary32 (at most 24 significant
// bits), so only the addition or subtraction of a minimum rounds, once: whoever computes `scale * code - min` with or without a
// fused multiply-add, in whatever vector width, gets these values bit for bit.
#pragma once

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

#include "core/dtype.h"

static_assert(std::endian::native == std::endian::little, "blocks are read from files as they lie");

namespace greta {

/// Elements of a super-block, which holds sub-blocks with integer scales of their own under one or two binary16 scales.
inline constexpr int kSuperBlock = 256;

// --- blocks of 32
// ------------------------------------------------------------------------------------------------------------- 4-bit codes:
// byte i holds element i in its low nibble and element i + 16 in its high one.

/// Element i = q[i] * d.
struct BlockQ8_0 {
  std::uint16_t d;
  std::int8_t q[32];
};
static_assert(sizeof(BlockQ8_0) == 34 && alignof(BlockQ8_0) == 2);

/// Element = (nibble - 8) * d.
struct BlockQ4_0 {
  std::uint16_t d;
  std::uint8_t q[16];
};
static_assert(sizeof(BlockQ4_0) == 18 && alignof(BlockQ4_0) == 2);

/// Element = nibble * d + m.
struct BlockQ4_1 {
  std::uint16_t d, m;
  std::uint8_t q[16];
};
static_assert(sizeof(BlockQ4_1) == 20 && alignof(BlockQ4_1) == 2);

/// Code i = nibble i, with bit i of the little-endian word `high` as bit 4; element = (code - 16) * d.
struct BlockQ5_0 {
  std::uint16_t d;
  std::uint8_t high[4];
  std::uint8_t q[16];
};
static_assert(sizeof(BlockQ5_0) == 22 && alignof(BlockQ5_0) == 2);

/// Codes as in Q5_0; element = code * d + m.
struct BlockQ5_1 {
  std::uint16_t d, m;
  std::uint8_t high[4];
  std::uint8_t q[16];
};
static_assert(sizeof(BlockQ5_1) == 24 && alignof(BlockQ5_1) == 2);

/// Element = kIq4Values[nibble] * d.
struct BlockIQ4_NL {
  std::uint16_t d;
  std::uint8_t q[16];
};
static_assert(sizeof(BlockIQ4_NL) == 18 && alignof(BlockIQ4_NL) == 2);

/// The 16 levels of the IQ4 formats: denser around zero, where weights are.
inline constexpr std::array<std::int8_t, 16> kIq4Values{-127, -104, -83, -65, -49, -35, -22, -10,
                                                        1,    13,   25,  38,  53,  69,  89,  113};

// --- super-blocks of 256
// ------------------------------------------------------------------------------------------------------ Elements are e =
// 0..255. Codes of several bits lie in planes: a byte holds the codes of elements that are 32 apart.

/// 16 sub-blocks of 16. Code of e: bits 2*((e % 128) / 32).. of q[32 * (e / 128) + e % 32], 2 bits. Sub-block s = e / 16 has
/// scale scales[s] & 15 and minimum scales[s] >> 4. Element = (d * scale) * code - dmin * minimum.
struct BlockQ2_K {
  std::uint8_t scales[16];
  std::uint8_t q[64];
  std::uint16_t d, dmin;
};
static_assert(sizeof(BlockQ2_K) == 84 && alignof(BlockQ2_K) == 2);

/// 16 sub-blocks of 16. Low 2 bits of the code as in Q2_K; its bit 2 is bit e / 32 of high[e % 32]. Scales: q3_k_scales.
/// Element = (d * scale) * (code - 4).
struct BlockQ3_K {
  std::uint8_t high[32];
  std::uint8_t q[64];
  std::uint8_t scales[12];
  std::uint16_t d;
};
static_assert(sizeof(BlockQ3_K) == 110 && alignof(BlockQ3_K) == 2);

/// 8 sub-blocks of 32. Code of e: low (e / 32 even) or high nibble of q[32 * (e / 64) + e % 32]. Scales and minima:
/// k_scales_minima. Element = (d * scale) * code - dmin * minimum.
struct BlockQ4_K {
  std::uint16_t d, dmin;
  std::uint8_t scales[12];
  std::uint8_t q[128];
};
static_assert(sizeof(BlockQ4_K) == 144 && alignof(BlockQ4_K) == 2);

/// As Q4_K, with bit e / 32 of high[e % 32] as bit 4 of the code.
struct BlockQ5_K {
  std::uint16_t d, dmin;
  std::uint8_t scales[12];
  std::uint8_t high[32];
  std::uint8_t q[128];
};
static_assert(sizeof(BlockQ5_K) == 176 && alignof(BlockQ5_K) == 2);

/// 16 sub-blocks of 16 with signed 8-bit scales. With h = e / 128, r = e % 128: low 4 bits of the code: low (r < 64) or high
/// nibble of low[64 * h + r % 64]; high 2 bits: bits 2*(r / 32).. of high[32 * h + r % 32]. Element = (d * scale) * (code -
/// 32).
struct BlockQ6_K {
  std::uint8_t low[128];
  std::uint8_t high[64];
  std::int8_t scales[16];
  std::uint16_t d;
};
static_assert(sizeof(BlockQ6_K) == 210 && alignof(BlockQ6_K) == 2);

/// 8 sub-blocks of 32 with codes as in IQ4_NL. Scale of sub-block s, 6 bits: nibble s of scales_low, bits 2*s.. of scales_high.
/// Element = (d * (scale - 32)) * kIq4Values[nibble].
struct BlockIQ4_XS {
  std::uint16_t d;
  std::uint16_t scales_high;
  std::uint8_t scales_low[4];
  std::uint8_t q[128];
};
static_assert(sizeof(BlockIQ4_XS) == 136 && alignof(BlockIQ4_XS) == 2);

/// The 6-bit scales (first 8) and minima (last 8) of a Q4_K or Q5_K super-block. Those of sub-blocks 0..3 are the low 6 bits of
/// bytes 0..3 (scales) and 4..7 (minima); those of 4..7 have their low 4 bits in the low (scales) and high (minima) nibbles of
/// bytes 8..11 and their high 2 bits in the high bits of bytes 0..3 and 4..7.
/// Four at a time, as bytes of little-endian words.
inline std::array<std::uint8_t, 16> k_scales_minima(const std::uint8_t (&packed)[12]) {
  std::uint32_t in[3];
  std::memcpy(in, packed, sizeof in);
  constexpr std::uint32_t kLow6 = 0x3f3f3f3f, kLow4 = 0x0f0f0f0f, kHigh2 = 0x30303030;
  const std::uint32_t words[4]{in[0] & kLow6, (in[2] & kLow4) | ((in[0] >> 2) & kHigh2), in[1] & kLow6,
                               ((in[2] >> 4) & kLow4) | ((in[1] >> 2) & kHigh2)};
  return std::bit_cast<std::array<std::uint8_t, 16>>(words);
}

/// The 16 scales of a Q3_K super-block, -32..31. Scale s is stored plus 32: its low 4 bits are the low (s < 8) or high nibble
/// of byte s % 8, its high 2 bits are bits 2*(s / 4).. of byte 8 + s % 4.
inline std::array<std::int8_t, 16> q3_k_scales(const std::uint8_t (&packed)[12]) {
  std::uint64_t low;
  std::uint32_t high;
  std::memcpy(&low, packed, sizeof low);
  std::memcpy(&high, packed + 8, sizeof high);
  constexpr std::uint64_t kLow4 = 0x0f0f0f0f0f0f0f0f, kHigh2 = 0x3030303030303030;
  constexpr std::uint64_t kTop = 0x8080808080808080, k32 = 0x2020202020202020;
  // Bits 0-3 of a byte of `high` belong to scales s < 8: s % 4 is the byte, s / 4 the pair.
  const auto pairs = [](std::uint32_t a, std::uint32_t b) { return a | (std::uint64_t{b} << 32); };
  const std::uint64_t stored[2]{(low & kLow4) | (pairs(high << 4, high << 2) & kHigh2),
                                ((low >> 4) & kLow4) | (pairs(high, high >> 2) & kHigh2)};
  // Subtracts 32 from every byte; the top bits, set meanwhile, stop the borrows.
  const std::uint64_t scales[2]{((stored[0] | kTop) - k32) ^ kTop, ((stored[1] | kTop) - k32) ^ kTop};
  return std::bit_cast<std::array<std::int8_t, 16>>(scales);
}

/// The 8 scales of an IQ4_XS super-block, -32..31.
inline std::array<std::int8_t, 8> iq4_xs_scales(const BlockIQ4_XS& block) {
  std::array<std::int8_t, 8> out{};
  for (unsigned s = 0; s < 8; ++s) {
    const int low = (block.scales_low[s / 2] >> (4 * (s % 2))) & 15;
    const int high = (block.scales_high >> (2 * s)) & 3;
    out[s] = static_cast<std::int8_t>((low | (high << 4)) - 32);
  }
  return out;
}

// --- by dtype
// -----------------------------------------------------------------------------------------------------------------

/// The struct of a block type: BlockOf<DType::q4_k> is BlockQ4_K.
template <DType kType>
struct BlockOfType;
// clang-format off
template <> struct BlockOfType<DType::q8_0> { using Block = BlockQ8_0; };
template <> struct BlockOfType<DType::q4_0> { using Block = BlockQ4_0; };
template <> struct BlockOfType<DType::q4_1> { using Block = BlockQ4_1; };
template <> struct BlockOfType<DType::q5_0> { using Block = BlockQ5_0; };
template <> struct BlockOfType<DType::q5_1> { using Block = BlockQ5_1; };
template <> struct BlockOfType<DType::q2_k> { using Block = BlockQ2_K; };
template <> struct BlockOfType<DType::q3_k> { using Block = BlockQ3_K; };
template <> struct BlockOfType<DType::q4_k> { using Block = BlockQ4_K; };
template <> struct BlockOfType<DType::q5_k> { using Block = BlockQ5_K; };
template <> struct BlockOfType<DType::q6_k> { using Block = BlockQ6_K; };
template <> struct BlockOfType<DType::iq4_nl> { using Block = BlockIQ4_NL; };
template <> struct BlockOfType<DType::iq4_xs> { using Block = BlockIQ4_XS; };
// clang-format on
template <DType kType>
using BlockOf = typename BlockOfType<kType>::Block;

/// Byte offsets of a block's binary16 scales and minima: what of a block can be NaN or infinite. Empty for plain numbers.
std::span<const std::int64_t> scale_offsets(DType dtype);

/// Writes `cols` elements of a row to `out`, as the block's definition above says, in binary32: products first, then the
/// minimum. `dtype` is a weight type (throws Error for f64); `cols` is a multiple of its block; `row` is aligned to 2 bytes for
/// the 16-bit and block types and to 4 for f32.
void dequantize_row(DType dtype, const std::byte* row, std::int64_t cols, float* out);

}  // namespace greta
