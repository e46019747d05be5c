#include "core/quantize.h"

#include <cstring>

#include "core/error.h"
#include "core/half.h"

namespace greta {
namespace {

template <DType kType>
void quantize_blocks(const float* in, std::int64_t cols, std::byte* row) {
  const std::int64_t size = dtype_info(kType).block_elems;
  auto* blocks = reinterpret_cast<BlockOf<kType>*>(row);
  for (std::int64_t b = 0; b < cols / size; ++b) quantize_block(in + b * size, blocks[b]);
}

}  // namespace

void quantize_row(DType dtype, const float* in, std::int64_t cols, std::byte* row) {
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
    case DType::q8_0:
      return quantize_blocks<DType::q8_0>(in, cols, row);
    case DType::q4_0:
      return quantize_blocks<DType::q4_0>(in, cols, row);
    case DType::q4_1:
      return quantize_blocks<DType::q4_1>(in, cols, row);
    case DType::q5_0:
      return quantize_blocks<DType::q5_0>(in, cols, row);
    case DType::q5_1:
      return quantize_blocks<DType::q5_1>(in, cols, row);
    case DType::q2_k:
      return quantize_blocks<DType::q2_k>(in, cols, row);
    case DType::q3_k:
      return quantize_blocks<DType::q3_k>(in, cols, row);
    case DType::q4_k:
      return quantize_blocks<DType::q4_k>(in, cols, row);
    case DType::q5_k:
      return quantize_blocks<DType::q5_k>(in, cols, row);
    case DType::q6_k:
      return quantize_blocks<DType::q6_k>(in, cols, row);
    case DType::iq4_nl:
      return quantize_blocks<DType::iq4_nl>(in, cols, row);
    case DType::iq4_xs:
      return quantize_blocks<DType::iq4_xs>(in, cols, row);
    case DType::f64:
    case DType::q8_f32:
      break;
  }
  fail("dtype {} is not a weight type, wanted one of {}", name(dtype), weight_dtype_names());
}

}  // namespace greta
