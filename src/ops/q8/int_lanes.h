// Sixteen virtual lanes of 32-bit integers, beside the float lanes of ops/cpu/lanes.h: exact, so the same on every target.
// Included inside foreach_target.h files only, so the guard flips with the target.

#if defined(GRETA_OPS_Q8_INT_LANES_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef GRETA_OPS_Q8_INT_LANES_H_
#undef GRETA_OPS_Q8_INT_LANES_H_
#else
#define GRETA_OPS_Q8_INT_LANES_H_
#endif

#include <cstring>

#include "ops/cpu/lanes.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

HWY_BEFORE_NAMESPACE();
namespace greta::HWY_NAMESPACE::integers {

// dot4(sum, w, x): lane i of sum + the products of the four unsigned bytes of lane i of w with the four signed bytes of x.
// kSmall promises w < 64: then a pair of products fits 16 bits and the saturating multiply cannot saturate. Without that
// promise even and odd bytes are widened first.

#if HWY_TARGET <= HWY_AVX3

struct Ints {
  __m512i v;
};
HWY_INLINE Ints set1_i32(std::int32_t x) { return {_mm512_set1_epi32(x)}; }
HWY_INLINE Ints load_ints(const void* p) { return {_mm512_loadu_si512(p)}; }
/// (a >> shift) & mask, lane by lane.
HWY_INLINE Ints bits_at(Ints a, int shift, int mask) {
  return {_mm512_and_si512(_mm512_srlv_epi32(a.v, _mm512_set1_epi32(shift)), _mm512_set1_epi32(mask))};
}
/// The signed byte of each lane whose lowest bit is `shift`.
HWY_INLINE Ints byte_at(Ints a, int shift) {
  return {_mm512_srai_epi32(_mm512_sllv_epi32(a.v, _mm512_set1_epi32(24 - shift)), 24)};
}
HWY_INLINE Lanes to_lanes(Ints a) { return {{Part{_mm512_cvtepi32_ps(a.v)}}}; }

template <bool kSmall>
HWY_INLINE Ints dot4(Ints sum, Ints w, Ints x) {
#if HWY_TARGET < HWY_AVX3
  // Not by _mm512_dpbusd_epi32: Highway's target names every extension of this level but VNNI itself.
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sum.v) : "v"(w.v), "v"(x.v));
  return sum;
#else
  if constexpr (kSmall) {
    const __m512i pairs = _mm512_maddubs_epi16(w.v, x.v);
    return {_mm512_add_epi32(sum.v, _mm512_madd_epi16(pairs, _mm512_set1_epi16(1)))};
  } else {
    const __m512i even =
        _mm512_madd_epi16(_mm512_and_si512(w.v, _mm512_set1_epi16(0xff)), _mm512_srai_epi16(_mm512_slli_epi16(x.v, 8), 8));
    const __m512i odd = _mm512_madd_epi16(_mm512_srli_epi16(w.v, 8), _mm512_srai_epi16(x.v, 8));
    return {_mm512_add_epi32(sum.v, _mm512_add_epi32(even, odd))};
  }
#endif
}

/// The row of a transposition: 64 bytes in pieces of kPiece, `stride` apart.
template <int kPiece>
HWY_INLINE __m512i load_pieces(const std::byte* p, std::int64_t stride) {
  if constexpr (kPiece == 64) {
    return _mm512_loadu_si512(p);
  } else if constexpr (kPiece == 32) {
    const auto at = [&](int i) HWY_ATTR { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p + i * stride)); };
    return _mm512_inserti64x4(_mm512_castsi256_si512(at(0)), at(1), 1);
  } else {
    const auto at = [&](int i) HWY_ATTR { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * stride)); };
    const __m256i low = _mm256_inserti128_si256(_mm256_castsi128_si256(at(0)), at(1), 1);
    const __m256i high = _mm256_inserti128_si256(_mm256_castsi128_si256(at(2)), at(3), 1);
    return _mm512_inserti64x4(_mm512_castsi256_si512(low), high, 1);
  }
}

/// Word i of word row j of `out` is word j of row i: 16 rows of 16 words, row i in pieces from in[i] + offset on.
template <int kPiece>
HWY_INLINE void transpose16(const std::byte* const (&in)[16], std::int64_t offset, std::int64_t stride, std::uint8_t* out) {
  __m512i a[16], b[16];
  for (int i = 0; i < 16; ++i) a[i] = load_pieces<kPiece>(in[i] + offset, stride);
  for (int i = 0; i < 16; i += 2) {
    b[i] = _mm512_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm512_unpackhi_epi32(a[i], a[i + 1]);
  }
  for (int i = 0; i < 16; i += 4) {  // a[i + c]: word c of each quarter, of rows i..i+3
    a[i] = _mm512_unpacklo_epi64(b[i], b[i + 2]);
    a[i + 1] = _mm512_unpackhi_epi64(b[i], b[i + 2]);
    a[i + 2] = _mm512_unpacklo_epi64(b[i + 1], b[i + 3]);
    a[i + 3] = _mm512_unpackhi_epi64(b[i + 1], b[i + 3]);
  }
  for (int c = 0; c < 4; ++c) {  // 4 x 4 of quarters
    const __m512i even01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0x88), odd01 = _mm512_shuffle_i32x4(a[c], a[4 + c], 0xdd);
    const __m512i even23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0x88);
    const __m512i odd23 = _mm512_shuffle_i32x4(a[8 + c], a[12 + c], 0xdd);
    _mm512_storeu_si512(out + (0 + c) * 64, _mm512_shuffle_i32x4(even01, even23, 0x88));
    _mm512_storeu_si512(out + (4 + c) * 64, _mm512_shuffle_i32x4(odd01, odd23, 0x88));
    _mm512_storeu_si512(out + (8 + c) * 64, _mm512_shuffle_i32x4(even01, even23, 0xdd));
    _mm512_storeu_si512(out + (12 + c) * 64, _mm512_shuffle_i32x4(odd01, odd23, 0xdd));
  }
}

#elif HWY_TARGET == HWY_AVX2

struct Ints {
  __m256i v[2];
};
HWY_INLINE Ints set1_i32(std::int32_t x) { return {{_mm256_set1_epi32(x), _mm256_set1_epi32(x)}}; }
HWY_INLINE Ints load_ints(const void* p) {
  const auto* from = static_cast<const __m256i*>(p);
  return {{_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)}};
}
HWY_INLINE Ints bits_at(Ints a, int shift, int mask) {
  for (__m256i& v : a.v) v = _mm256_and_si256(_mm256_srlv_epi32(v, _mm256_set1_epi32(shift)), _mm256_set1_epi32(mask));
  return a;
}
HWY_INLINE Ints byte_at(Ints a, int shift) {
  for (__m256i& v : a.v) v = _mm256_srai_epi32(_mm256_sllv_epi32(v, _mm256_set1_epi32(24 - shift)), 24);
  return a;
}
HWY_INLINE Lanes to_lanes(Ints a) { return {{Part{_mm256_cvtepi32_ps(a.v[0])}, Part{_mm256_cvtepi32_ps(a.v[1])}}}; }

template <bool kSmall>
HWY_INLINE Ints dot4(Ints sum, Ints w, Ints x) {
  for (int h = 0; h < 2; ++h) {
    if constexpr (kSmall) {
      const __m256i pairs = _mm256_maddubs_epi16(w.v[h], x.v[h]);
      sum.v[h] = _mm256_add_epi32(sum.v[h], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
    } else {
      const __m256i even = _mm256_madd_epi16(_mm256_and_si256(w.v[h], _mm256_set1_epi16(0xff)),
                                             _mm256_srai_epi16(_mm256_slli_epi16(x.v[h], 8), 8));
      const __m256i odd = _mm256_madd_epi16(_mm256_srli_epi16(w.v[h], 8), _mm256_srai_epi16(x.v[h], 8));
      sum.v[h] = _mm256_add_epi32(sum.v[h], _mm256_add_epi32(even, odd));
    }
  }
  return sum;
}

/// Half a row of a transposition: 32 bytes in pieces of kPiece, `stride` apart.
template <int kPiece>
HWY_INLINE __m256i load_pieces(const std::byte* p, std::int64_t stride) {
  if constexpr (kPiece >= 32) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  } else {
    const auto at = [&](int i) HWY_ATTR { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p + i * stride)); };
    return _mm256_inserti128_si256(_mm256_castsi128_si256(at(0)), at(1), 1);
  }
}

/// Eight by eight words of the transposition below.
template <int kPiece>
HWY_INLINE void transpose8(const std::byte* const* in, std::int64_t offset, std::int64_t stride, std::uint8_t* out) {
  __m256i a[8], b[8];
  for (int i = 0; i < 8; ++i) a[i] = load_pieces<kPiece>(in[i] + offset, stride);
  for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_epi32(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_epi32(a[i], a[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    a[i] = _mm256_unpacklo_epi64(b[i], b[i + 2]);
    a[i + 1] = _mm256_unpackhi_epi64(b[i], b[i + 2]);
    a[i + 2] = _mm256_unpacklo_epi64(b[i + 1], b[i + 3]);
    a[i + 3] = _mm256_unpackhi_epi64(b[i + 1], b[i + 3]);
  }
  for (int c = 0; c < 4; ++c) {
    const auto at = [&](int j) { return reinterpret_cast<__m256i*>(out + j * 64); };
    _mm256_storeu_si256(at(c), _mm256_permute2x128_si256(a[c], a[4 + c], 0x20));
    _mm256_storeu_si256(at(4 + c), _mm256_permute2x128_si256(a[c], a[4 + c], 0x31));
  }
}

/// Word i of word row j of `out` is word j of row i: 16 rows of 16 words, row i in pieces from in[i] + offset on.
template <int kPiece>
HWY_INLINE void transpose16(const std::byte* const (&in)[16], std::int64_t offset, std::int64_t stride, std::uint8_t* out) {
  for (int j = 0; j < 2; ++j) {
    const std::int64_t half = kPiece == 64 ? offset + j * 32 : offset + j * (32 / kPiece) * stride;
    for (int i = 0; i < 2; ++i) transpose8<kPiece>(in + 8 * i, half, stride, out + j * 8 * 64 + i * 32);
  }
}

#else

struct Ints {
  std::int32_t v[kLanes];
};
inline Ints set1_i32(std::int32_t x) {
  Ints out;
  for (std::int32_t& lane : out.v) lane = x;
  return out;
}
inline Ints load_ints(const void* p) {
  Ints out;
  std::memcpy(out.v, p, sizeof out.v);
  return out;
}
inline Ints bits_at(Ints a, int shift, int mask) {
  for (std::int32_t& lane : a.v) lane = static_cast<std::int32_t>(static_cast<std::uint32_t>(lane) >> shift) & mask;
  return a;
}
inline Ints byte_at(Ints a, int shift) {
  for (std::int32_t& lane : a.v) lane = static_cast<std::int8_t>(static_cast<std::uint32_t>(lane) >> shift);
  return a;
}
inline Lanes to_lanes(Ints a) {
  Lanes out;
  for (int i = 0; i < kLanes; ++i) out.v[i] = static_cast<float>(a.v[i]);
  return out;
}
template <bool kSmall>
inline Ints dot4(Ints sum, const Ints& w, const Ints& x) {
  std::uint8_t codes[4 * kLanes];
  std::int8_t inputs[4 * kLanes];
  std::memcpy(codes, w.v, sizeof codes);
  std::memcpy(inputs, x.v, sizeof inputs);
  for (int i = 0; i < 4 * kLanes; ++i) sum.v[i / 4] += codes[i] * inputs[i];
  return sum;
}
/// Word i of word row j of `out` is word j of row i: 16 rows of 16 words, row i in pieces from in[i] + offset on.
template <int kPiece>
inline void transpose16(const std::byte* const (&in)[16], std::int64_t offset, std::int64_t stride, std::uint8_t* out) {
  for (int i = 0; i < 16; ++i) {
    for (int j = 0; j < 16; ++j) {
      const int at = 4 * j;
      std::memcpy(out + j * 64 + i * 4, in[i] + offset + at / kPiece * stride + at % kPiece, 4);
    }
  }
}

#endif

}  // namespace greta::HWY_NAMESPACE::integers
HWY_AFTER_NAMESPACE();

#endif
