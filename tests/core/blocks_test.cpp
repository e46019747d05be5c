#include "core/blocks.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/half.h"
#include "core/quantize.h"

namespace greta {
namespace {

// Scales are powers of two, so that every expected value is exact by hand.
TEST(Blocks, Q8_0IsSignedBytesTimesScale) {
  BlockQ8_0 block{0x3400 /* 0.25 */, {}};
  block.q[0] = -128;
  block.q[1] = 127;
  block.q[31] = -1;
  std::array<float, 32> out{};
  dequantize_row(DType::q8_0, reinterpret_cast<const std::byte*>(&block), 32, out.data());
  EXPECT_EQ(out[0], -32.0f);
  EXPECT_EQ(out[1], 31.75f);
  EXPECT_EQ(out[2], 0.0f);
  EXPECT_EQ(out[31], -0.25f);
}

TEST(Blocks, Q4_0LowNibblesAreTheFirstHalf) {
  BlockQ4_0 block{0x4000 /* 2 */, {}};
  for (auto& byte : block.q) byte = 0x88;  // zeros
  block.q[0] = 0xf0;                       // element 0: nibble 0; element 16: nibble 15
  block.q[15] = 0x9a;                      // element 15: nibble 10; element 31: nibble 9
  std::array<float, 32> out{};
  dequantize_row(DType::q4_0, reinterpret_cast<const std::byte*>(&block), 32, out.data());
  EXPECT_EQ(out[0], -16.0f);
  EXPECT_EQ(out[16], 14.0f);
  EXPECT_EQ(out[15], 4.0f);
  EXPECT_EQ(out[31], 2.0f);
  EXPECT_EQ(out[1], 0.0f);
}

TEST(Blocks, SecondBlockOfARowIsFound) {
  std::array<BlockQ8_0, 2> row{};
  row[0].d = 0x3c00;  // 1
  row[1].d = 0x4400;  // 4
  row[0].q[3] = 5;
  row[1].q[3] = 7;
  std::array<float, 64> out{};
  dequantize_row(DType::q8_0, reinterpret_cast<const std::byte*>(row.data()), 64, out.data());
  EXPECT_EQ(out[3], 5.0f);
  EXPECT_EQ(out[35], 28.0f);
}

TEST(Blocks, DequantisationIsExactForEveryFiniteScale) {
  // In float64 every product of a binary16 and a small integer is exact; F32 must hold the same value.
  for (std::uint32_t d = 0; d < 0x7c00; ++d) {
    BlockQ8_0 block{static_cast<std::uint16_t>(d), {-128, 127, 113, -1}};
    std::array<float, 32> out{};
    dequantize_row(DType::q8_0, reinterpret_cast<const std::byte*>(&block), 32, out.data());
    for (int i = 0; i < 4; ++i) {
      ASSERT_EQ(static_cast<double>(out[static_cast<std::size_t>(i)]),
                static_cast<double>(block.q[i]) * static_cast<double>(f16_to_f32(static_cast<std::uint16_t>(d))));
    }
  }
}

TEST(Blocks, QuantiseQ8_0RoundsHalfAwayFromZero) {
  std::array<float, 32> x{};
  x[0] = 127.0f;  // d = 1
  x[1] = 2.5f;
  x[2] = -2.5f;
  x[3] = 2.49f;
  x[4] = -127.0f;
  BlockQ8_0 block{};
  quantize_row(DType::q8_0, x.data(), 32, reinterpret_cast<std::byte*>(&block));
  EXPECT_EQ(block.d, 0x3c00);
  EXPECT_EQ(block.q[0], 127);
  EXPECT_EQ(block.q[1], 3);
  EXPECT_EQ(block.q[2], -3);
  EXPECT_EQ(block.q[3], 2);
  EXPECT_EQ(block.q[4], -127);
  EXPECT_EQ(block.q[5], 0);
}

TEST(Blocks, QuantiseQ4_0TakesTheSignOfTheLargest) {
  std::array<float, 32> x{};
  x[0] = 8.0f;   // d = -1: the largest gets code 0
  x[1] = -8.0f;  // would be code 16: held at 15
  x[16] = 1.0f;
  BlockQ4_0 block{};
  quantize_row(DType::q4_0, x.data(), 32, reinterpret_cast<std::byte*>(&block));
  EXPECT_EQ(block.d, 0xbc00);
  EXPECT_EQ(block.q[0], 0x70);  // element 16: 8 - 1 = 7
  EXPECT_EQ(block.q[1], 0x8f);
  EXPECT_EQ(block.q[2], 0x88);
}

TEST(Blocks, TinyAndZeroBlocksQuantiseToZero) {
  for (const float tiny : {0.0f, std::numeric_limits<float>::denorm_min(), std::numeric_limits<float>::min()}) {
    std::array<float, 32> x{};
    x.fill(tiny);
    for (const DType dtype : {DType::q8_0, DType::q4_0}) {
      std::array<std::byte, 34> bytes{};
      std::array<float, 32> back{};
      quantize_row(dtype, x.data(), 32, bytes.data());
      dequantize_row(dtype, bytes.data(), 32, back.data());
      for (const float value : back) EXPECT_EQ(value, 0.0f);
    }
  }
}

TEST(Blocks, HalfTypesRoundTripWhatTheyHold) {
  const std::array<float, 4> x{1.0f, -0.15625f, 0.0f, 96.0f};
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16}) {
    std::array<std::byte, 16> bytes{};
    std::array<float, 4> back{};
    quantize_row(dtype, x.data(), 4, bytes.data());
    dequantize_row(dtype, bytes.data(), 4, back.data());
    EXPECT_EQ(back, x) << name(dtype);
  }
}

TEST(Blocks, F64IsNotAWeightType) {
  double x = 1;
  float out = 0;
  EXPECT_THROW(dequantize_row(DType::f64, reinterpret_cast<const std::byte*>(&x), 1, &out), Error);
}

}  // namespace
}  // namespace greta
