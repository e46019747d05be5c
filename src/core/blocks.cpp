#include "core/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "core/error.h"
#include "core/half.h"

namespace greta {
namespace {

constexpr std::int64_t kBlock = 32;  // elements, of both block formats

BlockQ8_0 quantize_q8_0(const float* x) {
  float largest = 0.0f;
  for (int i = 0; i < kBlock; ++i) largest = std::max(largest, std::fabs(x[i]));
  const float d = largest / 127.0f;
  float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  if (!std::isfinite(inverse)) inverse = 0.0f;
  BlockQ8_0 block;
  block.d = f32_to_f16(d);
  for (int i = 0; i < kBlock; ++i) block.q[i] = static_cast<std::int8_t>(std::round(x[i] * inverse));
  return block;
}

BlockQ4_0 quantize_q4_0(const float* x) {
  float largest = 0.0f;
  float extreme = 0.0f;  // with its sign
  for (int i = 0; i < kBlock; ++i) {
    if (std::fabs(x[i]) > largest) {
      largest = std::fabs(x[i]);
      extreme = x[i];
    }
  }
  const float d = extreme / -8.0f;
  float inverse = d != 0.0f ? 1.0f / d : 0.0f;
  if (!std::isfinite(inverse)) inverse = 0.0f;
  const auto code = [inverse](float value) { return std::min(15, static_cast<int>(value * inverse + 8.5f)); };
  BlockQ4_0 block;
  block.d = f32_to_f16(d);
  for (int i = 0; i < 16; ++i) block.q[i] = static_cast<std::uint8_t>(code(x[i]) | (code(x[i + 16]) << 4));
  return block;
}

}  // namespace

void dequantize_row(DType dtype, const std::byte* row, std::int64_t cols, float* out) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(out, row, static_cast<std::size_t>(cols) * sizeof(float));
      return;
    case DType::f16: {
      const auto* half = reinterpret_cast<const std::uint16_t*>(row);
      for (std::int64_t i = 0; i < cols; ++i) out[i] = f16_to_f32(half[i]);
      return;
    }
    case DType::bf16: {
      const auto* half = reinterpret_cast<const std::uint16_t*>(row);
      for (std::int64_t i = 0; i < cols; ++i) out[i] = bf16_to_f32(half[i]);
      return;
    }
    case DType::q8_0: {
      const auto* blocks = reinterpret_cast<const BlockQ8_0*>(row);
      for (std::int64_t b = 0; b < cols / kBlock; ++b) {
        const float d = f16_to_f32(blocks[b].d);
        for (int i = 0; i < kBlock; ++i) out[b * kBlock + i] = static_cast<float>(blocks[b].q[i]) * d;
      }
      return;
    }
    case DType::q4_0: {
      const auto* blocks = reinterpret_cast<const BlockQ4_0*>(row);
      for (std::int64_t b = 0; b < cols / kBlock; ++b) {
        const float d = f16_to_f32(blocks[b].d);
        for (int i = 0; i < 16; ++i) {
          out[b * kBlock + i] = static_cast<float>((blocks[b].q[i] & 15) - 8) * d;
          out[b * kBlock + i + 16] = static_cast<float>((blocks[b].q[i] >> 4) - 8) * d;
        }
      }
      return;
    }
    case DType::f64:
      break;
  }
  fail("dtype {} is not a weight type, wanted f32, f16, bf16, q8_0 or q4_0", name(dtype));
}

void quantize_row_reference(DType dtype, const float* in, std::int64_t cols, std::byte* row) {
  switch (dtype) {
    case DType::f32:
      std::memcpy(row, in, static_cast<std::size_t>(cols) * sizeof(float));
      return;
    case DType::f16: {
      auto* half = reinterpret_cast<std::uint16_t*>(row);
      for (std::int64_t i = 0; i < cols; ++i) half[i] = f32_to_f16(in[i]);
      return;
    }
    case DType::bf16: {
      auto* half = reinterpret_cast<std::uint16_t*>(row);
      for (std::int64_t i = 0; i < cols; ++i) half[i] = f32_to_bf16(in[i]);
      return;
    }
    case DType::q8_0: {
      auto* blocks = reinterpret_cast<BlockQ8_0*>(row);
      for (std::int64_t b = 0; b < cols / kBlock; ++b) blocks[b] = quantize_q8_0(in + b * kBlock);
      return;
    }
    case DType::q4_0: {
      auto* blocks = reinterpret_cast<BlockQ4_0*>(row);
      for (std::int64_t b = 0; b < cols / kBlock; ++b) blocks[b] = quantize_q4_0(in + b * kBlock);
      return;
    }
    case DType::f64:
      break;
  }
  fail("dtype {} is not a weight type, wanted f32, f16, bf16, q8_0 or q4_0", name(dtype));
}

}  // namespace greta
