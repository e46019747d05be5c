// Blocks of every format as bytes of codes, scales and minima (core/blocks.h says what they mean). Plain loops over bytes: the
// compiler makes vectors of them for each target. Included inside foreach_target.h files only, so the guard flips with the
// target.

#if defined(GRETA_OPS_Q8_UNPACK_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRETA_OPS_Q8_UNPACK_H_
#undef GRETA_OPS_Q8_UNPACK_H_
#else
#define GRETA_OPS_Q8_UNPACK_H_
#endif

#include "core/blocks.h"
#include "ops/cpu/lanes.h"
#include "ops/q8/format.h"

HWY_BEFORE_NAMESPACE();
namespace greta::HWY_NAMESPACE {

/// A group of one output: codes in the order of elements; d of the sub-blocks (8 of 32 elements, 16 of 16), then as many m,
/// where the format has them.
struct Unpacked {
  std::uint8_t codes[q8::kGroup];
  float scales[2 * q8::kGroup / 16];
};

template <class Block>
inline constexpr bool kIsSuperBlock = sizeof(Block) > 40;

HWY_INLINE float half_to_float(std::uint16_t h) {
#if HWY_TARGET <= HWY_AVX2
  return _cvtsh_ss(h);
#else
  return f16_to_f32(h);
#endif
}

/// kIq4Values plus 128 of n nibbles.
HWY_INLINE void iq4_codes(const std::uint8_t* nibbles, int n, std::uint8_t* out) {
  alignas(16) std::uint8_t table[16];
  for (std::size_t i = 0; i < 16; ++i) table[i] = static_cast<std::uint8_t>(kIq4Values[i] + 128);
#if HWY_TARGET <= HWY_AVX2
  const __m128i values = _mm_load_si128(reinterpret_cast<const __m128i*>(table));
  for (int i = 0; i < n; i += 16) {
    const __m128i index = _mm_loadu_si128(reinterpret_cast<const __m128i*>(nibbles + i));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i), _mm_shuffle_epi8(values, index));
  }
#else
  for (int i = 0; i < n; ++i) out[i] = table[nibbles[i]];
#endif
}

HWY_INLINE void nibbles_of_32(const std::uint8_t* q, std::uint8_t* out) {
  for (int i = 0; i < 16; ++i) {
    out[i] = q[i] & 15;
    out[i + 16] = q[i] >> 4;
  }
}
/// Nibbles of super-blocks: 32 bytes hold 32 elements in their low halves and the next 32 in their high ones.
HWY_INLINE void nibbles_of_64(const std::uint8_t* q, std::uint8_t* out) {
  for (int i = 0; i < 32; ++i) {
    out[i] = q[i] & 15;
    out[i + 32] = q[i] >> 4;
  }
}
/// Bit i of `high` as bit 4 of code i.
HWY_INLINE void add_fifth_bits(const std::uint8_t (&high)[4], std::uint8_t* codes) {
  for (int i = 0; i < 32; ++i) codes[i] = static_cast<std::uint8_t>(codes[i] | (((high[i / 8] >> (i % 8)) & 1) << 4));
}

// One block of 32: its 32 codes.
HWY_INLINE void unpack_codes(const BlockQ8_0& b, std::uint8_t* out) {
  for (int i = 0; i < 32; ++i) out[i] = static_cast<std::uint8_t>(b.q[i]) ^ 0x80;
}
HWY_INLINE void unpack_codes(const BlockQ4_0& b, std::uint8_t* out) { nibbles_of_32(b.q, out); }
HWY_INLINE void unpack_codes(const BlockQ4_1& b, std::uint8_t* out) { nibbles_of_32(b.q, out); }
HWY_INLINE void unpack_codes(const BlockQ5_0& b, std::uint8_t* out) {
  nibbles_of_32(b.q, out);
  add_fifth_bits(b.high, out);
}
HWY_INLINE void unpack_codes(const BlockQ5_1& b, std::uint8_t* out) {
  nibbles_of_32(b.q, out);
  add_fifth_bits(b.high, out);
}
HWY_INLINE void unpack_codes(const BlockIQ4_NL& b, std::uint8_t* out) {
  std::uint8_t nibbles[32];
  nibbles_of_32(b.q, nibbles);
  iq4_codes(nibbles, 32, out);
}

/// Blocks of 32, n of them (at most 8).
template <class Block>
HWY_INLINE void unpack_group(const Block* blocks, std::int64_t n, Unpacked& out) {
  for (std::int64_t b = 0; b < n; ++b) {
    unpack_codes(blocks[b], out.codes + 32 * b);
    out.scales[b] = half_to_float(blocks[b].d);
    if constexpr (requires { blocks[b].m; }) out.scales[8 + b] = half_to_float(blocks[b].m);
  }
}

// Super-blocks: one is a group.
HWY_INLINE void unpack_group(const BlockQ2_K* block, std::int64_t, Unpacked& out) {
  for (int h = 0; h < 2; ++h) {
    for (int j = 0; j < 4; ++j) {
      for (int i = 0; i < 32; ++i) out.codes[128 * h + 32 * j + i] = (block->q[32 * h + i] >> (2 * j)) & 3;
    }
  }
  const float d = half_to_float(block->d), dmin = half_to_float(block->dmin);
  for (int s = 0; s < 16; ++s) {
    out.scales[s] = d * static_cast<float>(block->scales[s] & 15);
    out.scales[16 + s] = -(dmin * static_cast<float>(block->scales[s] >> 4));
  }
}
HWY_INLINE void unpack_group(const BlockQ3_K* block, std::int64_t, Unpacked& out) {
  for (int h = 0; h < 2; ++h) {
    for (int j = 0; j < 4; ++j) {
      for (int i = 0; i < 32; ++i) {
        const int high = (block->high[i] >> (4 * h + j)) & 1;
        out.codes[128 * h + 32 * j + i] = static_cast<std::uint8_t>(((block->q[32 * h + i] >> (2 * j)) & 3) | (high << 2));
      }
    }
  }
  const float d = half_to_float(block->d);
  const auto scales = q3_k_scales(block->scales);
  for (std::size_t s = 0; s < 16; ++s) out.scales[s] = d * static_cast<float>(scales[s]);
}
/// d and m of the 8 sub-blocks of Q4_K and Q5_K.
template <class Block>
HWY_INLINE void unpack_scales_minima(const Block& block, Unpacked& out) {
  const float d = half_to_float(block.d), dmin = half_to_float(block.dmin);
  const auto packed = k_scales_minima(block.scales);
  for (std::size_t s = 0; s < 8; ++s) {
    out.scales[s] = d * static_cast<float>(packed[s]);
    out.scales[8 + s] = -(dmin * static_cast<float>(packed[s + 8]));
  }
}
HWY_INLINE void unpack_group(const BlockQ4_K* block, std::int64_t, Unpacked& out) {
  for (int c = 0; c < 4; ++c) nibbles_of_64(block->q + 32 * c, out.codes + 64 * c);
  unpack_scales_minima(*block, out);
}
HWY_INLINE void unpack_group(const BlockQ5_K* block, std::int64_t, Unpacked& out) {
  for (int c = 0; c < 4; ++c) {
    for (int i = 0; i < 32; ++i) {
      const int q = block->q[32 * c + i], high = block->high[i] >> (2 * c);
      out.codes[64 * c + i] = static_cast<std::uint8_t>((q & 15) | ((high & 1) << 4));
      out.codes[64 * c + 32 + i] = static_cast<std::uint8_t>((q >> 4) | ((high & 2) << 3));
    }
  }
  unpack_scales_minima(*block, out);
}
HWY_INLINE void unpack_group(const BlockQ6_K* block, std::int64_t, Unpacked& out) {
  for (int h = 0; h < 2; ++h) {
    const std::uint8_t *low = block->low + 64 * h, *high = block->high + 32 * h;
    std::uint8_t* codes = out.codes + 128 * h;
    for (int i = 0; i < 32; ++i) {
      codes[i] = static_cast<std::uint8_t>((low[i] & 15) | ((high[i] & 3) << 4));
      codes[i + 32] = static_cast<std::uint8_t>((low[i + 32] & 15) | ((high[i] & 12) << 2));
      codes[i + 64] = static_cast<std::uint8_t>((low[i] >> 4) | (high[i] & 48));
      codes[i + 96] = static_cast<std::uint8_t>((low[i + 32] >> 4) | ((high[i] >> 2) & 48));
    }
  }
  const float d = half_to_float(block->d);
  for (int s = 0; s < 16; ++s) out.scales[s] = d * static_cast<float>(block->scales[s]);
}
HWY_INLINE void unpack_group(const BlockIQ4_XS* block, std::int64_t, Unpacked& out) {
  std::uint8_t nibbles[q8::kGroup];
  for (int s = 0; s < 8; ++s) nibbles_of_32(block->q + 16 * s, nibbles + 32 * s);
  iq4_codes(nibbles, q8::kGroup, out.codes);
  const float d = half_to_float(block->d);
  const auto scales = iq4_xs_scales(*block);
  for (std::size_t s = 0; s < 8; ++s) out.scales[s] = d * static_cast<float>(scales[s]);
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
