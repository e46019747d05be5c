// What the fingerprint of a row is made of, for every backend: how an element's bits enter the hash and where it goes in the
// sketch (docs/formats.md, "Hash of a row"). Integer arithmetic alone, fit for vectors and for kernels.
#pragma once

#include <cstdint>

namespace greta {

/// Element i belongs to lane i mod 8 of the statistics; the lanes are added as one tree.
inline constexpr int kPrintLanes = 8;

// Weyl steps and multipliers: lo uses the constants of MurmurHash3's 64-bit finaliser, hi those of SplitMix64 (Steele, Lea &
// Flood 2014) with another Weyl step, so that the two sums share nothing.
inline constexpr std::uint64_t kPrintStepLo = 0x9e3779b97f4a7c15u, kPrintStepHi = 0xd1342543de82ef95u;
inline constexpr std::uint64_t kPrintTagLo = 0x2545f4914f6cdd1du, kPrintTagHi = 0xa0761d6478bd642fu;

/// Keys of element `index` of a row whose format has `tag`; an element's bits are mixed after bits ^ key.
constexpr std::uint64_t print_key_lo(std::uint64_t index, std::uint64_t tag) {
  return (index + 1) * kPrintStepLo + tag * kPrintTagLo;
}
constexpr std::uint64_t print_key_hi(std::uint64_t index, std::uint64_t tag) {
  return (index + 1) * kPrintStepHi + tag * kPrintTagHi;
}

/// U: a 64-bit unsigned number or a vector of them.
template <class U>
[[gnu::always_inline]] constexpr void print_mix_lo(U& z) {
  z = (z ^ (z >> 33)) * std::uint64_t{0xff51afd7ed558ccdu};
  z = (z ^ (z >> 33)) * std::uint64_t{0xc4ceb9fe1a85ec53u};
  z = z ^ (z >> 33);
}
template <class U>
[[gnu::always_inline]] constexpr void print_mix_hi(U& z) {
  z = (z ^ (z >> 30)) * std::uint64_t{0xbf58476d1ce4e5b9u};
  z = (z ^ (z >> 27)) * std::uint64_t{0x94d049bb133111ebu};
  z = z ^ (z >> 31);
}

/// How a stored type spells infinity and the one NaN that all of its NaNs count as, and its tag in the key.
struct PrintBinary64 {
  using Bits = std::uint64_t;
  static constexpr std::uint64_t tag = 1;
  static constexpr Bits infinity = 0x7ff0000000000000u, nan = 0x7ff8000000000000u;
};
struct PrintBinary32 {
  using Bits = std::uint32_t;
  static constexpr std::uint64_t tag = 2;
  static constexpr Bits infinity = 0x7f800000u, nan = 0x7fc00000u;
};
struct PrintBinary16 {
  using Bits = std::uint16_t;
  static constexpr std::uint64_t tag = 3;
  static constexpr Bits infinity = 0x7c00u, nan = 0x7e00u;
};
struct PrintBFloat16 {
  using Bits = std::uint16_t;
  static constexpr std::uint64_t tag = 4;
  static constexpr Bits infinity = 0x7f80u, nan = 0x7fc0u;
};
/// Elements of Q8_0 as binary32, which holds every one exactly.
struct PrintDequantized : PrintBinary32 {
  static constexpr std::uint64_t tag = 5;
};
/// Elements of q8_f32 as binary64, which holds every one exactly.
struct PrintWidenedQ8F32 : PrintBinary64 {
  static constexpr std::uint64_t tag = 6;
};

/// Buckets of the count-sketch (Charikar, Chen & Farach-Colton 2002). The squared norm of the difference of two sketches
/// estimates the squared norm of the difference of the rows with relative standard deviation sqrt(2/64) = 18 %.
inline constexpr int kSketchWidth = 64;

/// Where an element goes in the sketch, and with which sign.
struct SketchPlace {
  int bucket = 0;     // 0..kSketchWidth-1
  double sign = 1.0;  // +1 or -1
};
/// Of element `index`: SplitMix64 (Steele, Lea & Flood 2014) of it.
constexpr SketchPlace sketch_place(std::int64_t index) {
  constexpr std::uint64_t kSketchSeed = 0x6772657461303431u;
  std::uint64_t z = kSketchSeed + (static_cast<std::uint64_t>(index) + 1) * 0x9e3779b97f4a7c15u;
  print_mix_hi(z);
  return {static_cast<int>(z % kSketchWidth), (z >> 63) != 0 ? -1.0 : 1.0};
}

}  // namespace greta
