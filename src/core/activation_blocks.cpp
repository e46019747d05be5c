#include "core/activation_blocks.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace greta {
namespace {

BlockQ8F32 quantized(const float* x) {
  BlockQ8F32 block{};
  float largest = 0.0f;
  for (int i = 0; i < kActivationBlock; ++i) {
    if (!std::isfinite(x[i])) {
      block.d = std::numeric_limits<float>::quiet_NaN();
      return block;
    }
    largest = std::max(largest, std::fabs(x[i]));
  }
  block.d = largest / 127.0f;
  if (block.d == 0.0f) return block;
  for (int i = 0; i < kActivationBlock; ++i)
    block.q[i] = static_cast<std::int8_t>(std::clamp(std::nearbyint(x[i] / block.d), -127.0f, 127.0f));
  return block;
}

template <class T>
void dequantized(const std::byte* row, std::int64_t cols, T* out) {
  const auto* blocks = reinterpret_cast<const BlockQ8F32*>(row);
  for (std::int64_t b = 0; b < cols / kActivationBlock; ++b) {
    for (int i = 0; i < kActivationBlock; ++i)
      out[b * kActivationBlock + i] = static_cast<T>(blocks[b].q[i]) * static_cast<T>(blocks[b].d);
  }
}

}  // namespace

void quantize_activations(const float* x, std::int64_t cols, std::byte* row) {
  auto* blocks = reinterpret_cast<BlockQ8F32*>(row);
  for (std::int64_t b = 0; b < cols / kActivationBlock; ++b) blocks[b] = quantized(x + b * kActivationBlock);
}

void dequantize_activations(const std::byte* row, std::int64_t cols, double* out) { dequantized(row, cols, out); }
void dequantize_activations(const std::byte* row, std::int64_t cols, float* out) { dequantized(row, cols, out); }

}  // namespace greta
