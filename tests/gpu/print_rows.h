// Rows for the tests of fingerprints: ordinary numbers and every odd one, in each type.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "core/activation_blocks.h"
#include "core/dtype.h"
#include "core/half.h"

namespace greta::gpu {

/// What besides normal numbers is among the elements.
enum class Odd : std::uint8_t { nothing, everything, zeros_only, nothing_finite, random_bits };

inline std::vector<float> odd_floats(std::int64_t count, Odd odd, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal;
  constexpr float kInf = std::numeric_limits<float>::infinity(), kNan = std::numeric_limits<float>::quiet_NaN();
  const std::vector<float> odds{kInf, -kInf, kNan, -0.0f, 0.0f, 1e-41f, -1e-45f, 6e-8f, -3e-6f, 1e30f, -1e30f, 65504.0f};
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& x : values) {
    x = normal(random) * (random() % 5 == 0 ? 1e4f : 1.0f);  // so that the order of additions shows in the last bits
    if (odd == Odd::everything && random() % 3 == 0) x = odds[random() % odds.size()];
    if (odd == Odd::zeros_only) x = random() % 2 == 0 ? -0.0f : 0.0f;
    if (odd == Odd::nothing_finite) x = odds[random() % 3];
  }
  return values;
}

/// A row of `count` elements as stored.
inline std::vector<std::byte> odd_row(DType dtype, std::int64_t count, Odd odd, std::uint64_t seed) {
  std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(dtype, count)));
  std::mt19937_64 random(seed);
  if (odd == Odd::random_bits) {
    for (std::byte& b : row) b = static_cast<std::byte>(random());
    return row;
  }
  const std::vector<float> values = odd_floats(count, odd, seed);
  if (dtype == DType::q8_f32) {
    quantize_activations(values.data(), count, row.data());
    // Scales that quantising never makes, too: negative, infinite, 0 with codes.
    auto* blocks = reinterpret_cast<BlockQ8F32*>(row.data());
    for (std::int64_t b = 0; odd == Odd::everything && b < count / kActivationBlock; ++b)
      blocks[b].d = std::vector<float>{-0.25f, std::numeric_limits<float>::infinity(), 0.0f, 1e-44f, blocks[b].d}[random() % 5];
    return row;
  }
  for (std::size_t i = 0; i < values.size(); ++i) {
    if (dtype == DType::f32) std::memcpy(row.data() + 4 * i, &values[i], 4);
    const std::uint16_t half = dtype == DType::f16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i]);
    if (dtype != DType::f32) std::memcpy(row.data() + 2 * i, &half, 2);
  }
  return row;
}

}  // namespace greta::gpu
