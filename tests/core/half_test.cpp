#include "core/half.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace greta {
namespace {

// Closed form of IEEE 754-2008 binary16.
double value_of_f16(int bits) {
  const int sign = bits >> 15, exponent = (bits >> 10) & 31, mantissa = bits & 1023;
  const double magnitude = exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
  return sign ? -magnitude : magnitude;
}

TEST(Half, EveryFiniteValueConvertsExactlyAndBack) {
  for (int bits = 0; bits < 65536; ++bits) {
    if (((bits >> 10) & 31) == 31) continue;
    const float f = f16_to_f32(static_cast<std::uint16_t>(bits));
    ASSERT_EQ(static_cast<double>(f), value_of_f16(bits)) << bits;
    ASSERT_EQ(f32_to_f16(f), bits);
  }
}

TEST(Half, RoundsToNearestTiesToEven) {
  for (int bits = 0; bits < 0x7bff; ++bits) {
    const double low = value_of_f16(bits), high = value_of_f16(bits + 1);
    const auto middle = static_cast<float>((low + high) / 2);  // exact: one more bit than binary16 has
    ASSERT_EQ(f32_to_f16(middle), (bits & 1) ? bits + 1 : bits) << bits;
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, -1.0f)), bits);
    ASSERT_EQ(f32_to_f16(std::nextafter(middle, 1e30f)), bits + 1);
    ASSERT_EQ(f32_to_f16(-middle), 0x8000 | ((bits & 1) ? bits + 1 : bits));
  }
}

TEST(Half, OverflowsToInfinityAndKeepsNan) {
  EXPECT_EQ(f32_to_f16(65519.996f), 0x7bff);
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(-std::numeric_limits<float>::infinity()), 0xfc00);
  EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(std::isinf(f16_to_f32(0x7c00)));
}

TEST(Bfloat16, RoundsToNearestTiesToEven) {
  EXPECT_EQ(f32_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.00390625f), 0x3f80);  // 1 + 2^-8: tie, to even
  EXPECT_EQ(f32_to_bf16(1.01171875f), 0x3f82);  // 1 + 3*2^-8: tie, to even
  EXPECT_EQ(bf16_to_f32(0xc000), -2.0f);
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(std::numeric_limits<float>::signaling_NaN()))));
}

}  // namespace
}  // namespace greta
