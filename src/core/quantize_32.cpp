// The formats whose quantisation has a reference definition: blocks of 32 with uniform steps.
#include <algorithm>
#include <cmath>

#include "core/half.h"
#include "core/quantize.h"

namespace greta {
namespace {

constexpr unsigned kBlock = 32;

/// 1 / d, or 0 where that is not finite.
float inverse_of(float d) {
  const float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  return std::isfinite(inverse) ? inverse : 0.0f;
}

/// The element of largest magnitude, the first of equals.
float extreme_of(const float* x) {
  float extreme = 0.0f;
  for (unsigned i = 0; i < kBlock; ++i) {
    if (std::fabs(x[i]) > std::fabs(extreme)) extreme = x[i];
  }
  return extreme;
}

/// Writes the low 4 bits of code(i) for 32 elements, and returns the fifth bits.
template <class F>
std::uint32_t put_codes(const F& code, std::uint8_t (&q)[16]) {
  std::uint32_t high = 0;
  for (unsigned i = 0; i < 16; ++i) {
    const auto first = static_cast<unsigned>(code(i));
    const auto second = static_cast<unsigned>(code(i + 16));
    q[i] = static_cast<std::uint8_t>((first & 15u) | ((second & 15u) << 4));
    high |= (first >> 4) << i;
    high |= (second >> 4) << (i + 16);
  }
  return high;
}

/// Codes 0..top around top / 2 + 0.5: q4_0, q5_0.
template <class Block>
std::uint32_t quantize_symmetric(const float* x, int top, Block& block) {
  const float middle = static_cast<float>(top / 2 + 1);
  const float d = extreme_of(x) / -middle;
  const float inverse = inverse_of(d);
  block.d = f32_to_f16(d);
  return put_codes([&](unsigned i) { return std::min(top, static_cast<int>(x[i] * inverse + (middle + 0.5f))); }, block.q);
}

/// Codes 0..top over [min, max]: q4_1, q5_1.
template <class Block>
std::uint32_t quantize_affine(const float* x, int top, Block& block) {
  const auto [lowest, highest] = std::minmax_element(x, x + kBlock);
  const float minimum = *lowest;
  const float d = (*highest - minimum) / static_cast<float>(top);
  const float inverse = inverse_of(d);
  block.d = f32_to_f16(d);
  block.m = f32_to_f16(minimum);
  if (!std::isfinite(d)) return put_codes([](unsigned) { return 0; }, block.q);  // too large, for the caller to find
  return put_codes([&](unsigned i) { return std::min(top, static_cast<int>((x[i] - minimum) * inverse + 0.5f)); }, block.q);
}

template <class Block>
void put_high(std::uint32_t high, Block& block) {
  for (unsigned i = 0; i < 4; ++i) block.high[i] = static_cast<std::uint8_t>(high >> (8 * i));
}

}  // namespace

void quantize_block(const float* x, BlockQ8_0& block) {
  const float d = std::fabs(extreme_of(x)) / 127.0f;
  const float inverse = inverse_of(d);
  block.d = f32_to_f16(d);
  for (unsigned i = 0; i < kBlock; ++i) block.q[i] = static_cast<std::int8_t>(std::round(x[i] * inverse));
}

void quantize_block(const float* x, BlockQ4_0& block) { quantize_symmetric(x, 15, block); }
void quantize_block(const float* x, BlockQ5_0& block) { put_high(quantize_symmetric(x, 31, block), block); }
void quantize_block(const float* x, BlockQ4_1& block) { quantize_affine(x, 15, block); }
void quantize_block(const float* x, BlockQ5_1& block) { put_high(quantize_affine(x, 31, block), block); }

}  // namespace greta
