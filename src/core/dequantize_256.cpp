// Formats in super-blocks of 256 elements.
#include "core/dequantize.h"
#include "core/half.h"

namespace greta {

void dequantize_block(const BlockQ2_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  for (int s = 0; s < 16; ++s) {
    const float scale = d * static_cast<float>(block.scales[s] & 15);
    const float minimum = dmin * static_cast<float>(block.scales[s] >> 4);
    for (int e = 16 * s; e < 16 * s + 16; ++e) {
      const int code = (block.q[32 * (e / 128) + e % 32] >> (2 * (e % 128 / 32))) & 3;
      out[e] = scale * static_cast<float>(code) - minimum;
    }
  }
}

void dequantize_block(const BlockQ3_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  const auto scales = q3_k_scales(block.scales);
  for (int s = 0; s < 16; ++s) {
    const float scale = d * static_cast<float>(scales[static_cast<unsigned>(s)]);
    for (int e = 16 * s; e < 16 * s + 16; ++e) {
      const int low = (block.q[32 * (e / 128) + e % 32] >> (2 * (e % 128 / 32))) & 3;
      const int high = (block.high[e % 32] >> (e / 32)) & 1;
      out[e] = scale * static_cast<float>((low | (high << 2)) - 4);
    }
  }
}

void dequantize_block(const BlockQ4_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  const auto packed = k_scales_minima(block.scales);
  for (unsigned s = 0; s < 8; ++s) {
    const float scale = d * static_cast<float>(packed[s]);
    const float minimum = dmin * static_cast<float>(packed[8 + s]);
    const std::uint8_t* q = block.q + 32 * (s / 2);
    for (unsigned i = 0; i < 32; ++i) {
      const int code = (q[i] >> (4 * (s % 2))) & 15;
      out[32 * s + i] = scale * static_cast<float>(code) - minimum;
    }
  }
}

void dequantize_block(const BlockQ5_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  const float dmin = f16_to_f32(block.dmin);
  const auto packed = k_scales_minima(block.scales);
  for (unsigned s = 0; s < 8; ++s) {
    const float scale = d * static_cast<float>(packed[s]);
    const float minimum = dmin * static_cast<float>(packed[8 + s]);
    const std::uint8_t* q = block.q + 32 * (s / 2);
    for (unsigned i = 0; i < 32; ++i) {
      const int code = ((q[i] >> (4 * (s % 2))) & 15) | (((block.high[i] >> s) & 1) << 4);
      out[32 * s + i] = scale * static_cast<float>(code) - minimum;
    }
  }
}

void dequantize_block(const BlockQ6_K& block, float* out) {
  const float d = f16_to_f32(block.d);
  for (int s = 0; s < 16; ++s) {
    const float scale = d * static_cast<float>(block.scales[s]);
    for (int e = 16 * s; e < 16 * s + 16; ++e) {
      const int half = e / 128;
      const int r = e % 128;
      const int low = (block.low[64 * half + r % 64] >> (4 * (r / 64))) & 15;
      const int high = (block.high[32 * half + r % 32] >> (2 * (r / 32))) & 3;
      out[e] = scale * static_cast<float>((low | (high << 4)) - 32);
    }
  }
}

void dequantize_block(const BlockIQ4_XS& block, float* out) {
  const float d = f16_to_f32(block.d);
  const auto scales = iq4_xs_scales(block);
  for (unsigned s = 0; s < 8; ++s) {
    const float scale = d * static_cast<float>(scales[s]);
    for (unsigned i = 0; i < 32; ++i) {
      const unsigned nibble = (block.q[16 * s + i % 16] >> (4 * (i / 16))) & 15u;
      out[32 * s + i] = scale * static_cast<float>(kIq4Values[nibble]);
    }
  }
}

}  // namespace greta
