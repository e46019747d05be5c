#include "core/blocks.h"

#include <cstddef>
#include <cstring>

#include "core/dequantize.h"
#include "core/error.h"
#include "core/half.h"

namespace greta {
namespace {

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

}  // namespace greta
