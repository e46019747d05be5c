// Blocks of weights as route q8 multiplies them: slices of 32 codes, signed bytes less their offset, in order, and the scales
// and minima of their sub-blocks (core/blocks.h says what the blocks mean, ops/q8/format.h what is an offset).
#pragma once

#include <cstring>

#include "core/blocks.h"
#include "ops/gpu/kernels/numbers.h"
#include "ops/q8/format.h"

namespace greta::gpu::GRETA_GPU_TARGET {

template <DType kType>
struct SliceOf {
  static constexpr q8::Format kFormat = q8::format_of(kType);
  static constexpr int kSubs = 32 / kFormat.sub;  // sub-blocks of a slice
  static constexpr int kOffset = kFormat.small ? kFormat.offset : 0;
  static constexpr int kBlockBytes = static_cast<int>(sizeof(BlockOf<kType>));
  static constexpr int kSlices = kBlockBytes <= 34 ? 1 : kSuperBlock / 32;  // of a block

  std::uint32_t codes[8];
  float d[kSubs];
  float m[kSubs];  // where the type has minima
};

GRETA_DEVICE float half_at(const std::byte* p) { return half_to_float(*reinterpret_cast<const std::uint16_t*>(p)); }
GRETA_DEVICE int byte_at(const std::byte* p) { return static_cast<int>(*p); }

/// kN words from p on, which is a multiple of 4 bytes (kAligned) or of 2; then the two bytes before them, which share a word
/// with theirs, may be read too.
template <int kN, bool kAligned>
GRETA_DEVICE void load_words(const std::byte* p, std::uint32_t* out) {
#if defined(GRETA_GPU_EMULATED)
  std::memcpy(out, p, sizeof(std::uint32_t) * kN);
#else
  if constexpr (kAligned) {
    for (int i = 0; i < kN; ++i) out[i] = reinterpret_cast<const std::uint32_t*>(p)[i];
  } else {
    const auto address = reinterpret_cast<std::uintptr_t>(p);
    const auto* words = reinterpret_cast<const std::uint32_t*>(p - (address & 2));
    const unsigned shift = static_cast<unsigned>(address & 2) * 8;
    std::uint32_t low = words[0];
    for (int i = 0; i < kN; ++i) {
      // Of the last word only the half that is theirs: a tensor may end there.
      const std::uint32_t high = i + 1 < kN   ? words[i + 1]
                                 : shift != 0 ? *reinterpret_cast<const std::uint16_t*>(words + kN)
                                              : 0u;
      out[i] = static_cast<std::uint32_t>((static_cast<std::uint64_t>(high) << 32 | low) >> shift);
      low = high;
    }
  }
#endif
}

/// kIq4Values in place of four nibbles, each in a byte.
GRETA_DEVICE std::uint32_t iq4_values(std::uint32_t nibbles) {
  constexpr auto kTable = [] {
    struct {
      std::uint64_t half[2] = {};
    } table;
    for (unsigned i = 0; i < 16; ++i)
      table.half[i / 8] |= static_cast<std::uint64_t>(static_cast<std::uint8_t>(kIq4Values[i])) << (8 * (i % 8));
    return table;
  }();
  constexpr std::uint64_t kLow = kTable.half[0], kHigh = kTable.half[1];
  std::uint32_t out = 0;
  for (int i = 0; i < 32; i += 8) {
    const std::uint32_t nibble = (nibbles >> i) & 15u;
    const std::uint64_t half = nibble < 8 ? kLow : kHigh;
    out |= (static_cast<std::uint32_t>(half >> (8 * (nibble & 7u))) & 255u) << i;
  }
  return out;
}

/// Nibbles of 16 bytes: elements 0..15 in the low halves, 16..31 in the high ones.
template <bool kAligned>
GRETA_DEVICE void nibbles_of_32(const std::byte* p, std::uint32_t (&codes)[8]) {
  std::uint32_t q[4];
  load_words<4, kAligned>(p, q);
  for (int i = 0; i < 4; ++i) {
    codes[i] = q[i] & 0x0f0f0f0fu;
    codes[i + 4] = (q[i] >> 4) & 0x0f0f0f0fu;
  }
}
/// Bit i of `high` as bit 4 of code i. The product puts bit j of four at the bottom of byte j.
GRETA_DEVICE void add_fifth_bits(std::uint32_t high, std::uint32_t (&codes)[8]) {
  for (int i = 0; i < 8; ++i) codes[i] |= ((((high >> (4 * i)) & 15u) * 0x204081u) & 0x01010101u) << 4;
}
/// codes |= ((bytes at p >> shift) & kMask) << kUp; kMask: of one byte.
template <std::uint32_t kMask, int kUp, bool kAligned>
GRETA_DEVICE void add_plane(const std::byte* p, int shift, std::uint32_t (&codes)[8]) {
  std::uint32_t words[8];
  load_words<8, kAligned>(p, words);
  for (int i = 0; i < 8; ++i) codes[i] |= ((words[i] >> shift) & (kMask * 0x01010101u)) << kUp;
}

template <DType kType>
GRETA_DEVICE void unpack_codes(const std::byte* block, int slice, std::uint32_t (&codes)[8]) {
  using Block = BlockOf<kType>;
  constexpr bool kAligned = sizeof(Block) % 4 == 0;
  for (std::uint32_t& word : codes) word = 0;
  if constexpr (kType == DType::q8_0) {
    load_words<8, kAligned>(block + 2, codes);
  } else if constexpr (kType == DType::q4_0 || kType == DType::iq4_nl) {
    nibbles_of_32<kAligned>(block + 2, codes);
  } else if constexpr (kType == DType::q4_1) {
    nibbles_of_32<kAligned>(block + 4, codes);
  } else if constexpr (kType == DType::q5_0 || kType == DType::q5_1) {
    constexpr int kHigh = offsetof(Block, high);
    std::uint32_t high[1];
    load_words<1, kAligned>(block + kHigh, high);
    nibbles_of_32<kAligned>(block + kHigh + 4, codes);
    add_fifth_bits(high[0], codes);
  } else if constexpr (kType == DType::q2_k) {
    add_plane<3, 0, kAligned>(block + offsetof(Block, q) + 32 * (slice / 4), 2 * (slice % 4), codes);
  } else if constexpr (kType == DType::q3_k) {
    add_plane<3, 0, kAligned>(block + offsetof(Block, q) + 32 * (slice / 4), 2 * (slice % 4), codes);
    add_plane<1, 2, kAligned>(block + offsetof(Block, high), slice, codes);
  } else if constexpr (kType == DType::q4_k || kType == DType::q5_k) {
    add_plane<15, 0, kAligned>(block + offsetof(Block, q) + 32 * (slice / 2), 4 * (slice % 2), codes);
    if constexpr (kType == DType::q5_k) add_plane<1, 4, kAligned>(block + offsetof(Block, high), slice, codes);
  } else if constexpr (kType == DType::q6_k) {
    add_plane<15, 0, kAligned>(block + 64 * (slice / 4) + 32 * (slice % 2), 4 * (slice % 4 / 2), codes);
    add_plane<3, 4, kAligned>(block + offsetof(Block, high) + 32 * (slice / 4), 2 * (slice % 4), codes);
  } else {
    static_assert(kType == DType::iq4_xs);
    nibbles_of_32<kAligned>(block + offsetof(Block, q) + 16 * slice, codes);
  }
  if constexpr (kType == DType::iq4_nl || kType == DType::iq4_xs) {
    for (std::uint32_t& word : codes) word = iq4_values(word);
  }
}

/// Scale `s` of a Q3_K super-block.
GRETA_DEVICE int q3_k_scale(const std::byte* scales, int s) {
  const int low = (byte_at(scales + s % 8) >> (4 * (s / 8))) & 15;
  const int high = (byte_at(scales + 8 + s % 4) >> (2 * (s / 4))) & 3;
  return (low | high << 4) - 32;
}

template <DType kType>
GRETA_DEVICE void unpack_scales(const std::byte* block, int slice, SliceOf<kType>& out) {
  using Block = BlockOf<kType>;
  const float d = half_at(block + offsetof(Block, d));
  if constexpr (SliceOf<kType>::kSlices == 1) {
    out.d[0] = d;
    if constexpr (SliceOf<kType>::kFormat.minima) out.m[0] = half_at(block + offsetof(Block, m));
  } else if constexpr (kType == DType::q4_k || kType == DType::q5_k) {
    const std::byte* packed = block + offsetof(Block, scales);
    const int a = byte_at(packed + slice % 4), b = byte_at(packed + slice % 4 + 4), c = byte_at(packed + slice % 4 + 8);
    const int scale = slice < 4 ? a & 63 : (c & 15) | (a >> 6) << 4;
    const int minimum = slice < 4 ? b & 63 : c >> 4 | (b >> 6) << 4;
    out.d[0] = d * static_cast<float>(scale);
    out.m[0] = -half_at(block + offsetof(Block, dmin)) * static_cast<float>(minimum);
  } else if constexpr (kType == DType::iq4_xs) {
    const int low = (byte_at(block + offsetof(Block, scales_low) + slice / 2) >> (4 * (slice % 2))) & 15;
    const int high = (byte_at(block + offsetof(Block, scales_high) + slice / 4) >> (2 * (slice % 4))) & 3;
    out.d[0] = d * static_cast<float>((low | high << 4) - 32);
  } else {
    const std::byte* scales = block + offsetof(Block, scales);
    for (int i = 0; i < 2; ++i) {
      const int s = 2 * slice + i;
      if constexpr (kType == DType::q2_k) {
        out.d[i] = d * static_cast<float>(byte_at(scales + s) & 15);
        out.m[i] = -half_at(block + offsetof(Block, dmin)) * static_cast<float>(byte_at(scales + s) >> 4);
      } else if constexpr (kType == DType::q3_k) {
        out.d[i] = d * static_cast<float>(q3_k_scale(scales, s));
      } else {
        static_assert(kType == DType::q6_k);
        out.d[i] = d * static_cast<float>(static_cast<std::int8_t>(scales[s]));
      }
    }
  }
}

/// Slice `slice` of a block: elements 32 * slice .. + 31. `block` is aligned as Block is, and to 4 bytes if its size is a
/// multiple of 4.
template <DType kType>
GRETA_DEVICE SliceOf<kType> unpack_slice(const std::byte* block, int slice) {
  SliceOf<kType> out;
  unpack_codes<kType>(block, slice, out.codes);
  unpack_scales<kType>(block, slice, out);
  return out;
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
