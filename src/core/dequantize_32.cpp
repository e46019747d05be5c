// Formats in blocks of 32 elements.
#include "core/dequantize.h"
#include "core/half.h"

namespace greta {
namespace {

/// Calls put(element, nibble) for the 32 nibbles of 16 bytes.
template <class F>
void for_nibbles(const std::uint8_t (&q)[16], const F& put) {
  for (unsigned i = 0; i < 16; ++i) {
    put(i, q[i] & 15);
    put(i + 16, q[i] >> 4);
  }
}

/// Bit 4 of element i's code.
int fifth_bit(const std::uint8_t (&high)[4], unsigned i) { return ((high[i / 8] >> (i % 8)) & 1) << 4; }

}  // namespace

void dequantize_block(const BlockQ8_0& block, float* out) {
  const float d = f16_to_f32(block.d);
  for (int i = 0; i < 32; ++i) out[i] = static_cast<float>(block.q[i]) * d;
}

void dequantize_block(const BlockQ4_0& block, float* out) {
  const float d = f16_to_f32(block.d);
  for_nibbles(block.q, [&](unsigned i, int nibble) { out[i] = static_cast<float>(nibble - 8) * d; });
}

void dequantize_block(const BlockQ4_1& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float m = f16_to_f32(block.m);
  for_nibbles(block.q, [&](unsigned i, int nibble) { out[i] = static_cast<float>(nibble) * d + m; });
}

void dequantize_block(const BlockQ5_0& block, float* out) {
  const float d = f16_to_f32(block.d);
  for_nibbles(block.q,
              [&](unsigned i, int nibble) { out[i] = static_cast<float>((nibble | fifth_bit(block.high, i)) - 16) * d; });
}

void dequantize_block(const BlockQ5_1& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float m = f16_to_f32(block.m);
  for_nibbles(block.q, [&](unsigned i, int nibble) { out[i] = static_cast<float>(nibble | fifth_bit(block.high, i)) * d + m; });
}

void dequantize_block(const BlockIQ4_NL& block, float* out) {
  const float d = f16_to_f32(block.d);
  for_nibbles(block.q,
              [&](unsigned i, int nibble) { out[i] = static_cast<float>(kIq4Values[static_cast<unsigned>(nibble)]) * d; });
}

}  // namespace greta
