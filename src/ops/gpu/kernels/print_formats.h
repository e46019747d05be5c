// Elements of a row as fingerprints see them: their bits and their values.
#pragma once

#include "core/activation_blocks.h"
#include "core/fingerprint_mix.h"
#include "ops/gpu/portable.h"

namespace greta::gpu::GRETA_GPU_TARGET {

// Value holds every element exactly; where exact_square is set, float64 holds its square too, so that adding it by fma is the
// same as adding it. Words of zero are zeros in every format.
struct PrintF32 : PrintBinary32 {
  using Word = std::uint32_t;
  using Value = float;
  static constexpr bool exact_square = true;
  GRETA_DEVICE static Word bits(const std::byte* row, std::uint32_t i) {
    return reinterpret_cast<const std::uint32_t*>(row)[i];
  }
  GRETA_DEVICE static Value value(Word bits) { return float_of(bits); }
};

struct PrintF16 : PrintBinary16 {
  using Word = std::uint32_t;
  using Value = float;
  static constexpr bool exact_square = true;
  GRETA_DEVICE static Word bits(const std::byte* row, std::uint32_t i) {
    return reinterpret_cast<const std::uint16_t*>(row)[i];
  }
  /// Of finite elements.
  GRETA_DEVICE static Value value(Word bits) {
    const Word magnitude = bits & 0x7fffu;
    const float subnormal = static_cast<float>(magnitude) * 0x1p-24f;
    const Word size = magnitude < 0x400u ? bits_of(subnormal) : (magnitude << 13) + (112u << 23);
    return float_of(size | ((bits & 0x8000u) << 16));
  }
};

struct PrintBF16 : PrintBFloat16 {
  using Word = std::uint32_t;
  using Value = float;
  static constexpr bool exact_square = true;
  GRETA_DEVICE static Word bits(const std::byte* row, std::uint32_t i) {
    return reinterpret_cast<const std::uint16_t*>(row)[i];
  }
  GRETA_DEVICE static Value value(Word bits) { return float_of(bits << 16); }
};

struct PrintQ8F32 : PrintWidenedQ8F32 {
  using Word = std::uint64_t;
  using Value = double;
  static constexpr bool exact_square = false;
  GRETA_DEVICE static Word bits(const std::byte* row, std::uint32_t i) {
    constexpr auto n = static_cast<std::uint32_t>(kActivationBlock);
    const BlockQ8F32& block = reinterpret_cast<const BlockQ8F32*>(row)[i / n];
    return __builtin_bit_cast(Word, static_cast<double>(block.q[i % n]) * static_cast<double>(block.d));
  }
  GRETA_DEVICE static Value value(Word bits) { return __builtin_bit_cast(double, bits); }
};

/// Of element bits without their sign; a Format's Bits may be narrower than the Word they come in.
template <class Format>
GRETA_DEVICE typename Format::Word print_magnitude(typename Format::Word bits) {
  constexpr auto mask = static_cast<typename Format::Word>(static_cast<typename Format::Bits>(-1)) >> 1;
  return bits & mask;
}
/// As float64, 0 where the element is not finite: adding that leaves a sum as it is, for no sum here is ever -0.
template <class Format>
GRETA_DEVICE double print_value(typename Format::Word bits) {
  return static_cast<double>(Format::value(print_magnitude<Format>(bits) < Format::infinity ? bits : 0));
}

/// Calls act(a Format) for rows of that type.
template <class Act>
GRETA_DEVICE void with_format(DType dtype, const Act& act) {
  switch (dtype) {
    case DType::f32:
      return act(PrintF32{});
    case DType::f16:
      return act(PrintF16{});
    case DType::bf16:
      return act(PrintBF16{});
    case DType::q8_f32:
      return act(PrintQ8F32{});
    default:
      return;
  }
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
