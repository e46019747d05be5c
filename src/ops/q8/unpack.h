// Weights of 16 outputs unpacked side by side (core/blocks.h says what the blocks mean). A plane of a format (its nibbles, its
// high bits) is first transposed, four elements of every output to a word of 64 bytes; then every format is a few plain loops
// over bytes, which the compiler makes vectors of on each target. Included inside foreach_target.h files only, so the guard
// flips with the target.

#if defined(GRETA_OPS_Q8_UNPACK_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRETA_OPS_Q8_UNPACK_H_
#undef GRETA_OPS_Q8_UNPACK_H_
#else
#define GRETA_OPS_Q8_UNPACK_H_
#endif

#include <cstddef>

#include "core/blocks.h"
#include "ops/q8/format.h"
#include "ops/q8/int_lanes.h"

HWY_BEFORE_NAMESPACE();
namespace greta::HWY_NAMESPACE::integers {

using q8::Group;
using q8::kTileOuts;

/// Where the same group of each output begins.
struct Sources {
  const std::byte* of[kTileOuts];
};
using Word = std::uint8_t[kTileOuts * 4];  // four elements of every output

/// kWords words of every output from byte `offset` of its group on, in pieces of kPiece bytes, `stride` apart.
template <int kPiece, int kWords>
HWY_INLINE void transpose(const Sources& from, std::int64_t offset, std::int64_t stride, Word* out) {
  for (int k = 0; k < kWords; k += 16) {
    transpose16<kPiece>(from.of, offset + k * 4 / kPiece * stride, stride, out[k]);
  }
}

/// out = (in >> kShift) & kMask, of so many words.
template <int kShift, int kMask>
HWY_INLINE void bits(const Word* in, int words, Word* out) {
  const std::uint8_t* from = in[0];
  std::uint8_t* to = out[0];
  for (int i = 0; i < words * kTileOuts * 4; ++i) to[i] = (from[i] >> kShift) & kMask;
}
/// out |= ((in >> kShift) & kMask) << kUp.
template <int kShift, int kMask, int kUp>
HWY_INLINE void add_bits(const Word* in, int words, Word* out) {
  const std::uint8_t* from = in[0];
  std::uint8_t* to = out[0];
  for (int i = 0; i < words * kTileOuts * 4; ++i)
    to[i] = static_cast<std::uint8_t>(to[i] | (((from[i] >> kShift) & kMask) << kUp));
}

/// kIq4Values plus 128 in place of the nibbles.
HWY_INLINE void iq4_codes(int words, Word* codes) {
  alignas(16) std::uint8_t table[16];
  for (std::size_t i = 0; i < 16; ++i) table[i] = static_cast<std::uint8_t>(kIq4Values[i] + 128);
  std::uint8_t* at = codes[0];
#if HWY_TARGET <= HWY_AVX2
  const __m128i values = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
  for (int i = 0; i < words * kTileOuts * 4; i += 16) {
    auto* p = reinterpret_cast<__m128i*>(at + i);
    _mm_store_si128(p, _mm_shuffle_epi8(values, _mm_load_si128(p)));
  }
#else
  for (int i = 0; i < words * kTileOuts * 4; ++i) at[i] = table[at[i]];
#endif
}

/// binary16 numbers of every output, widened.
struct Halves {
  std::uint16_t half[kTileOuts];
  HWY_INLINE void widen(float* out) const { store(load_f16(reinterpret_cast<const std::byte*>(half)), out); }
};
HWY_INLINE std::uint16_t half_at(const std::byte* p) { return load_u16(p); }

// --- blocks of 32: Sources point at eight of them, kSize bytes each ----------------------------------------------------------

template <int kSize>
HWY_INLINE void block_scales(const Sources& from, std::int64_t offset, float (*out)[kTileOuts]) {
  for (int b = 0; b < q8::kBlocksOfGroup; ++b) {
    Halves scales;
    for (int i = 0; i < kTileOuts; ++i) scales.half[i] = half_at(from.of[i] + b * kSize + offset);
    scales.widen(out[b]);
  }
}
/// Nibbles of blocks that hold elements 0..15 in low halves and 16..31 in high ones.
template <int kSize>
HWY_INLINE void block_nibbles(const Sources& from, std::int64_t offset, Word* codes) {
  alignas(64) Word nibbles[32];
  transpose<16, 32>(from, offset, kSize, nibbles);
  for (int b = 0; b < q8::kBlocksOfGroup; ++b) {
    bits<0, 15>(nibbles + 4 * b, 4, codes + 8 * b);
    bits<4, 15>(nibbles + 4 * b, 4, codes + 8 * b + 4);
  }
}
/// Bit i of a block's 32-bit word as bit 4 of its code i. The product puts bit j of four at the bottom of byte j.
template <int kSize>
HWY_INLINE void block_fifth_bits(const Sources& from, std::int64_t offset, Word* codes) {
  for (int b = 0; b < q8::kBlocksOfGroup; ++b) {
    std::uint32_t high[kTileOuts], words[kTileOuts];
    for (int i = 0; i < kTileOuts; ++i) high[i] = load_as<std::uint32_t>(from.of[i] + b * kSize + offset);
    for (int k = 0; k < 8; ++k) {
      std::memcpy(words, codes[8 * b + k], sizeof words);
      for (int i = 0; i < kTileOuts; ++i) words[i] |= ((((high[i] >> (4 * k)) & 15u) * 0x204081u) & 0x01010101u) << 4;
      std::memcpy(codes[8 * b + k], words, sizeof words);
    }
  }
}

HWY_INLINE void unpack(const BlockQ8_0*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  transpose<32, 64>(from, offsetof(BlockQ8_0, q), sizeof(BlockQ8_0), codes);
  std::uint8_t* at = codes[0];
  for (int i = 0; i < q8::kGroup * kTileOuts; ++i) at[i] ^= 0x80;
  block_scales<sizeof(BlockQ8_0)>(from, 0, scales);
}
HWY_INLINE void unpack(const BlockQ4_0*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  block_nibbles<sizeof(BlockQ4_0)>(from, offsetof(BlockQ4_0, q), codes);
  block_scales<sizeof(BlockQ4_0)>(from, 0, scales);
}
HWY_INLINE void unpack(const BlockQ4_1*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  block_nibbles<sizeof(BlockQ4_1)>(from, offsetof(BlockQ4_1, q), codes);
  block_scales<sizeof(BlockQ4_1)>(from, 0, scales);
  block_scales<sizeof(BlockQ4_1)>(from, offsetof(BlockQ4_1, m), scales + 8);
}
HWY_INLINE void unpack(const BlockQ5_0*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  block_nibbles<sizeof(BlockQ5_0)>(from, offsetof(BlockQ5_0, q), codes);
  block_fifth_bits<sizeof(BlockQ5_0)>(from, offsetof(BlockQ5_0, high), codes);
  block_scales<sizeof(BlockQ5_0)>(from, 0, scales);
}
HWY_INLINE void unpack(const BlockQ5_1*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  block_nibbles<sizeof(BlockQ5_1)>(from, offsetof(BlockQ5_1, q), codes);
  block_fifth_bits<sizeof(BlockQ5_1)>(from, offsetof(BlockQ5_1, high), codes);
  block_scales<sizeof(BlockQ5_1)>(from, 0, scales);
  block_scales<sizeof(BlockQ5_1)>(from, offsetof(BlockQ5_1, m), scales + 8);
}
HWY_INLINE void unpack(const BlockIQ4_NL*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  block_nibbles<sizeof(BlockIQ4_NL)>(from, offsetof(BlockIQ4_NL, q), codes);
  iq4_codes(q8::kGroup / 4, codes);
  block_scales<sizeof(BlockIQ4_NL)>(from, 0, scales);
}

// --- super-blocks: one is a group --------------------------------------------------------------------------------------------

/// Integer scales of kCount sub-blocks, a byte each, of every output; byte s of `packed(i)` belongs to output i.
template <int kCount>
struct TileScales {
  std::uint32_t words[kCount / 4][kTileOuts];

  template <class Packed>
  HWY_INLINE explicit TileScales(const Packed& packed) {
    for (int i = 0; i < kTileOuts; ++i) {
      const auto bytes = packed(i);
      static_assert(sizeof bytes >= kCount);
      std::uint32_t in[kCount / 4];
      std::memcpy(in, &bytes, sizeof in);
      for (int k = 0; k < kCount / 4; ++k) words[k][i] = in[k];
    }
  }
  /// out = factor * scale of sub-block s, unsigned bits [kShift, kShift + bits of kMask) of its byte.
  template <int kShift, int kMask>
  HWY_INLINE void scale(int s, const float* factor, float* out) const {
    store(mul(load(factor), to_lanes(bits_at(load_ints(words[s / 4]), 8 * (s % 4) + kShift, kMask))), out);
  }
  /// The same of a signed byte.
  HWY_INLINE void signed_scale(int s, const float* factor, float* out) const {
    store(mul(load(factor), to_lanes(byte_at(load_ints(words[s / 4]), 8 * (s % 4)))), out);
  }
};

/// The binary16 number at `offset` of every output's super-block.
HWY_INLINE void super_scale(const Sources& from, std::int64_t offset, float* out) {
  Halves scales;
  for (int i = 0; i < kTileOuts; ++i) scales.half[i] = half_at(from.of[i] + offset);
  scales.widen(out);
}
HWY_INLINE void negate(float* values) {
  for (int i = 0; i < kTileOuts; ++i) values[i] = -values[i];
}
template <class Block>
HWY_INLINE const Block& block_of(const Sources& from, int i) {
  return *reinterpret_cast<const Block*>(from.of[i]);
}

/// Two bits a code, as Q2_K and Q3_K hold them: planes of 32 elements in the pairs of bits of 32 bytes.
HWY_INLINE void pairs_of_128(const Word* q, Word* codes) {
  bits<0, 3>(q, 8, codes);
  bits<2, 3>(q, 8, codes + 8);
  bits<4, 3>(q, 8, codes + 16);
  bits<6, 3>(q, 8, codes + 24);
}
/// Nibbles of Q4_K and Q5_K: 32 bytes hold 32 elements in their low halves and the next 32 in their high ones.
HWY_INLINE void nibbles_of_256(const Word* q, Word* codes) {
  for (int c = 0; c < 4; ++c) {
    bits<0, 15>(q + 8 * c, 8, codes + 16 * c);
    bits<4, 15>(q + 8 * c, 8, codes + 16 * c + 8);
  }
}
/// d and m of the 8 sub-blocks of Q4_K and Q5_K.
template <class Block>
HWY_INLINE void scales_minima(const Sources& from, float (*scales)[kTileOuts]) {
  float d[kTileOuts], dmin[kTileOuts];
  super_scale(from, offsetof(Block, d), d);
  super_scale(from, offsetof(Block, dmin), dmin);
  negate(dmin);
  const TileScales<16> packed([&](int i) HWY_ATTR { return k_scales_minima(block_of<Block>(from, i).scales); });
  for (int s = 0; s < 8; ++s) {
    packed.template scale<0, 63>(s, d, scales[s]);
    packed.template scale<0, 63>(s + 8, dmin, scales[s + 8]);
  }
}

HWY_INLINE void unpack(const BlockQ2_K*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  alignas(64) Word q[16];
  transpose<64, 16>(from, offsetof(BlockQ2_K, q), 0, q);
  for (int h = 0; h < 2; ++h) pairs_of_128(q + 8 * h, codes + 32 * h);
  float d[kTileOuts], dmin[kTileOuts];
  super_scale(from, offsetof(BlockQ2_K, d), d);
  super_scale(from, offsetof(BlockQ2_K, dmin), dmin);
  negate(dmin);
  const TileScales<16> packed(
      [&](int i) HWY_ATTR { return std::bit_cast<std::array<std::uint8_t, 16>>(block_of<BlockQ2_K>(from, i).scales); });
  for (int s = 0; s < 16; ++s) {
    packed.scale<0, 15>(s, d, scales[s]);
    packed.scale<4, 15>(s, dmin, scales[s + 16]);
  }
}
HWY_INLINE void unpack(const BlockQ3_K*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  alignas(64) Word q[16], high[16];  // of `high` the first half counts; the rest is the block's next bytes
  transpose<64, 16>(from, offsetof(BlockQ3_K, q), 0, q);
  transpose<64, 16>(from, offsetof(BlockQ3_K, high), 0, high);
  for (int h = 0; h < 2; ++h) pairs_of_128(q + 8 * h, codes + 32 * h);
  add_bits<0, 1, 2>(high, 8, codes);
  add_bits<1, 1, 2>(high, 8, codes + 8);
  add_bits<2, 1, 2>(high, 8, codes + 16);
  add_bits<3, 1, 2>(high, 8, codes + 24);
  add_bits<4, 1, 2>(high, 8, codes + 32);
  add_bits<5, 1, 2>(high, 8, codes + 40);
  add_bits<6, 1, 2>(high, 8, codes + 48);
  add_bits<7, 1, 2>(high, 8, codes + 56);
  float d[kTileOuts];
  super_scale(from, offsetof(BlockQ3_K, d), d);
  const TileScales<16> packed([&](int i) HWY_ATTR { return q3_k_scales(block_of<BlockQ3_K>(from, i).scales); });
  for (int s = 0; s < 16; ++s) packed.signed_scale(s, d, scales[s]);
}
HWY_INLINE void unpack(const BlockQ4_K*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  alignas(64) Word q[32];
  transpose<64, 32>(from, offsetof(BlockQ4_K, q), 64, q);
  nibbles_of_256(q, codes);
  scales_minima<BlockQ4_K>(from, scales);
}
HWY_INLINE void unpack(const BlockQ5_K*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  alignas(64) Word q[32], high[16];  // of `high` the first half counts
  transpose<64, 32>(from, offsetof(BlockQ5_K, q), 64, q);
  transpose<64, 16>(from, offsetof(BlockQ5_K, high), 0, high);
  nibbles_of_256(q, codes);
  add_bits<0, 1, 4>(high, 8, codes);
  add_bits<1, 1, 4>(high, 8, codes + 8);
  add_bits<2, 1, 4>(high, 8, codes + 16);
  add_bits<3, 1, 4>(high, 8, codes + 24);
  add_bits<4, 1, 4>(high, 8, codes + 32);
  add_bits<5, 1, 4>(high, 8, codes + 40);
  add_bits<6, 1, 4>(high, 8, codes + 48);
  add_bits<7, 1, 4>(high, 8, codes + 56);
  scales_minima<BlockQ5_K>(from, scales);
}
HWY_INLINE void unpack(const BlockQ6_K*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  alignas(64) Word low[32], high[16];
  transpose<64, 32>(from, offsetof(BlockQ6_K, low), 64, low);
  transpose<64, 16>(from, offsetof(BlockQ6_K, high), 0, high);
  for (int h = 0; h < 2; ++h) {
    Word* at = codes + 32 * h;
    bits<0, 15>(low + 16 * h, 16, at);
    bits<4, 15>(low + 16 * h, 16, at + 16);
    add_bits<0, 3, 4>(high + 8 * h, 8, at);
    add_bits<2, 3, 4>(high + 8 * h, 8, at + 8);
    add_bits<4, 3, 4>(high + 8 * h, 8, at + 16);
    add_bits<6, 3, 4>(high + 8 * h, 8, at + 24);
  }
  float d[kTileOuts];
  super_scale(from, offsetof(BlockQ6_K, d), d);
  const TileScales<16> packed(
      [&](int i) HWY_ATTR { return std::bit_cast<std::array<std::int8_t, 16>>(block_of<BlockQ6_K>(from, i).scales); });
  for (int s = 0; s < 16; ++s) packed.signed_scale(s, d, scales[s]);
}
HWY_INLINE void unpack(const BlockIQ4_XS*, const Sources& from, Word* codes, float (*scales)[kTileOuts]) {
  alignas(64) Word q[32];
  transpose<64, 32>(from, offsetof(BlockIQ4_XS, q), 64, q);
  for (int s = 0; s < 8; ++s) {
    bits<0, 15>(q + 4 * s, 4, codes + 8 * s);
    bits<4, 15>(q + 4 * s, 4, codes + 8 * s + 4);
  }
  iq4_codes(q8::kGroup / 4, codes);
  float d[kTileOuts];
  super_scale(from, offsetof(BlockIQ4_XS, d), d);
  const TileScales<8> packed([&](int i) HWY_ATTR { return iq4_xs_scales(block_of<BlockIQ4_XS>(from, i)); });
  for (int s = 0; s < 8; ++s) packed.signed_scale(s, d, scales[s]);
}

}  // namespace greta::HWY_NAMESPACE::integers
HWY_AFTER_NAMESPACE();

#endif
