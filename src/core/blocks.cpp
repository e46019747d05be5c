#include "core/blocks.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstring>

#include "core/dequantize.h"
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

template <DType kType>
void dequantize_blocks(const std::byte* row, std::int64_t cols, float* out) {
  const std::int64_t size = dtype_info(kType).block_elems;
  const auto* blocks = reinterpret_cast<const BlockOf<kType>*>(row);
  for (std::int64_t b = 0; b < cols / size; ++b) dequantize_block(blocks[b], out + b * size);
}

}  // namespace

std::span<const std::int64_t> scale_offsets(DType dtype) {
  static constexpr std::int64_t kFirst[]{0}, kFirstTwo[]{0, 2}, kQ2K[]{80, 82}, kQ3K[]{108}, kQ6K[]{208};
  static_assert(offsetof(BlockQ2_K, d) == 80 && offsetof(BlockQ2_K, dmin) == 82);
  static_assert(offsetof(BlockQ3_K, d) == 108 && offsetof(BlockQ6_K, d) == 208);
  switch (dtype) {
    case DType::q8_0:
    case DType::q4_0:
    case DType::q5_0:
    case DType::iq4_nl:
    case DType::iq4_xs:
      return kFirst;
    case DType::q4_1:
    case DType::q5_1:
    case DType::q4_k:
    case DType::q5_k:
      return kFirstTwo;
    case DType::q2_k:
      return kQ2K;
    case DType::q3_k:
      return kQ3K;
    case DType::q6_k:
      return kQ6K;
    case DType::f64:
    case DType::q8_f32:
    case DType::f32:
    case DType::f16:
    case DType::bf16:
      break;
  }
  return {};
}

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
    case DType::q8_0:
      return dequantize_blocks<DType::q8_0>(row, cols, out);
    case DType::q4_0:
      return dequantize_blocks<DType::q4_0>(row, cols, out);
    case DType::q4_1:
      return dequantize_blocks<DType::q4_1>(row, cols, out);
    case DType::q5_0:
      return dequantize_blocks<DType::q5_0>(row, cols, out);
    case DType::q5_1:
      return dequantize_blocks<DType::q5_1>(row, cols, out);
    case DType::q2_k:
      return dequantize_blocks<DType::q2_k>(row, cols, out);
    case DType::q3_k:
      return dequantize_blocks<DType::q3_k>(row, cols, out);
    case DType::q4_k:
      return dequantize_blocks<DType::q4_k>(row, cols, out);
    case DType::q5_k:
      return dequantize_blocks<DType::q5_k>(row, cols, out);
    case DType::q6_k:
      return dequantize_blocks<DType::q6_k>(row, cols, out);
    case DType::iq4_nl:
      return dequantize_blocks<DType::iq4_nl>(row, cols, out);
    case DType::iq4_xs:
      return dequantize_blocks<DType::iq4_xs>(row, cols, out);
    case DType::f64:
    case DType::q8_f32:
      break;
  }
  fail("dtype {} is not a weight type, wanted one of {}", name(dtype), weight_dtype_names());
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
    default:
      break;
  }
  fail("dtype {} has no quantiser", name(dtype));
}

}  // namespace greta
