// Quantisers: codes that are known by hand, and errors against those of a plain search and of an exhaustive one.
#include "core/quantize.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "core/half.h"

namespace greta {
namespace {

std::vector<float> round_trip(DType dtype, const std::vector<float>& x) {
  const auto n = static_cast<std::int64_t>(x.size());
  std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(dtype, n)));
  quantize_row(dtype, x.data(), n, row.data());
  std::vector<float> out(x.size());
  dequantize_row(dtype, row.data(), n, out.data());
  return out;
}

double rms_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double square = 0;
  for (std::size_t i = 0; i < a.size(); ++i) square += std::pow(static_cast<double>(a[i]) - static_cast<double>(b[i]), 2);
  return std::sqrt(square / static_cast<double>(a.size()));
}

std::vector<float> normal_values(std::size_t n, std::uint32_t seed, float scale = 1) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> x(n);
  for (float& value : x) value = normal(random);
  return x;
}

TEST(Quantize, ZerosStayZeros) {
  for (const DType dtype : weight_dtypes()) {
    for (const float value : round_trip(dtype, std::vector<float>(512, 0.0f))) EXPECT_EQ(value, 0.0f) << name(dtype);
  }
}

/// Values that a format can hold exactly come back as they went: decode random blocks, quantise, decode again.
TEST(Quantize, WhatAFormatHoldsLosesLittle) {
  // Relative to the RMS of the values; the searches need not find the very same codes.
  for (const DType dtype : weight_dtypes()) {
    std::mt19937 random(11);
    const DTypeInfo& info = dtype_info(dtype);
    const std::int64_t n = 64 * 256;
    std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(dtype, n)));
    for (std::byte& byte : row) byte = static_cast<std::byte>(random());
    for (std::int64_t b = 0; b < n / info.block_elems; ++b) {
      for (const std::int64_t offset : scale_offsets(dtype)) {
        const std::uint16_t scale = f32_to_f16(0.01f + 0.01f * static_cast<float>(random() % 100));
        std::memcpy(row.data() + b * info.block_bytes + offset, &scale, sizeof scale);
      }
    }
    if (!is_block_type(dtype)) {
      const auto x = normal_values(static_cast<std::size_t>(n), 3);
      quantize_row(dtype, x.data(), n, row.data());
    }
    std::vector<float> x(static_cast<std::size_t>(n));
    dequantize_row(dtype, row.data(), n, x.data());
    const double rms = rms_difference(x, std::vector<float>(x.size()));
    const double error = rms_difference(x, round_trip(dtype, x)) / rms;
    EXPECT_LT(error, is_block_type(dtype) ? 0.07 : 1e-12) << name(dtype);
  }
}

/// Error relative to the deviation of a normal source: about what the format's step allows, and no less (a wrong unit or a lost
/// bit would show either way). How good the searches are, the fixtures of another program say (tests/model/quantize_test.cpp).
TEST(Quantize, ErrorsOfANormalSource) {
  const std::pair<DType, double> wanted[]{{DType::q8_0, 0.0066}, {DType::q4_0, 0.106},   {DType::q4_1, 0.091},
                                          {DType::q5_0, 0.053},  {DType::q5_1, 0.044},   {DType::q2_k, 0.31},
                                          {DType::q3_k, 0.177},  {DType::q4_k, 0.083},   {DType::q5_k, 0.0425},
                                          {DType::q6_k, 0.0214}, {DType::iq4_nl, 0.091}, {DType::iq4_xs, 0.092}};
  const auto x = normal_values(256 * 256, 5, 0.02f);
  for (const auto& [dtype, bound] : wanted) {
    const double error = rms_difference(x, round_trip(dtype, x)) / 0.02;
    EXPECT_LT(error, bound * 1.05) << name(dtype);
    EXPECT_GT(error, bound * 0.6) << name(dtype);
  }
}

/// Each code is the nearest level of its own sub-block: flipping any bit of the codes brings no element nearer to its value.
TEST(Quantize, NoOtherCodeIsNearer) {
  for (const DType dtype : {DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_xs, DType::iq4_nl}) {
    const std::int64_t n = dtype_info(dtype).block_elems;
    const auto x = normal_values(static_cast<std::size_t>(n), 8);
    std::vector<std::byte> block(static_cast<std::size_t>(row_bytes(dtype, n)));
    quantize_row(dtype, x.data(), n, block.data());
    std::vector<float> got(x.size());
    dequantize_row(dtype, block.data(), n, got.data());
    // Bytes of codes, by format: everything but scales.
    const std::size_t begin = dtype == DType::q2_k                           ? 16
                              : dtype == DType::q3_k || dtype == DType::q6_k ? 0
                              : dtype == DType::iq4_nl                       ? 2
                              : dtype == DType::iq4_xs                       ? 8
                                                                             : 16;
    const std::size_t end = dtype == DType::q2_k ? 80 : dtype == DType::q3_k ? 96 : dtype == DType::q6_k ? 192 : block.size();
    for (std::size_t byte = begin; byte < end; ++byte) {
      for (int bit = 0; bit < 8; ++bit) {
        auto changed = block;
        changed[byte] ^= static_cast<std::byte>(1 << bit);
        std::vector<float> other(x.size());
        dequantize_row(dtype, changed.data(), n, other.data());
        for (std::size_t i = 0; i < x.size(); ++i) {
          ASSERT_LE(std::fabs(got[i] - x[i]), std::fabs(other[i] - x[i]) * 1.00001f + 1e-6f)
              << name(dtype) << " byte " << byte << " bit " << bit << " element " << i;
        }
      }
    }
  }
}

/// Tiny and large values give numbers of their size.
TEST(Quantize, ExtremesStayNumbers) {
  for (const DType dtype : weight_dtypes()) {
    for (const float scale : {1e-38f, 1e-30f, 1e-8f, 1e-5f, 1e3f, 1e4f}) {
      for (const float value : round_trip(dtype, normal_values(512, 9, scale))) {
        ASSERT_LE(std::fabs(value), scale * 6) << name(dtype) << ' ' << scale;
      }
    }
  }
}

/// What overflows binary16 must be visible: an infinite scale (or element), never zeros or other wrong numbers.
TEST(Quantize, OverflowIsVisible) {
  for (const DType dtype : weight_dtypes()) {
    if (dtype == DType::f32 || dtype == DType::bf16) continue;
    for (const float scale : {1e8f, 1e20f, 1e37f, 8e37f}) {
      const auto x = normal_values(256, 9, scale);
      std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(dtype, 256)));
      quantize_row(dtype, x.data(), 256, row.data());
      bool infinite = false;
      const auto look = [&](std::int64_t at) {
        std::uint16_t bits;
        std::memcpy(&bits, row.data() + at, sizeof bits);
        infinite = infinite || (bits & 0x7c00) == 0x7c00;
      };
      if (dtype == DType::f16) look(0);
      for (const std::int64_t offset : scale_offsets(dtype)) look(offset);
      EXPECT_TRUE(infinite) << name(dtype) << ' ' << scale;
    }
  }
}

TEST(Quantize, OneElementAndOneSignStandAlone) {
  for (const DType dtype : weight_dtypes()) {
    if (dtype == DType::f16 || dtype == DType::bf16 || dtype == DType::f32) continue;
    std::vector<float> spike(256, 0.0f), positive(256), negative(256);
    spike[77] = -3.0f;
    for (std::size_t i = 0; i < 256; ++i) positive[i] = 1.0f + static_cast<float>(i % 7) * 0.125f, negative[i] = -positive[i];
    EXPECT_LT(rms_difference(spike, round_trip(dtype, spike)), 0.02) << name(dtype);
    EXPECT_LT(rms_difference(positive, round_trip(dtype, positive)), 0.25) << name(dtype);
    EXPECT_LT(rms_difference(negative, round_trip(dtype, negative)), 0.25) << name(dtype);
  }
}

}  // namespace
}  // namespace greta
