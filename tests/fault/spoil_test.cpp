#include "fault/spoil.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/activation_blocks.h"
#include "core/half.h"

namespace greta {
namespace {

Spoil ulps(std::int64_t n) { return {.ulp = n}; }

template <class T>
T spoiled(const Spoil& how, T value, DType dtype) {
  std::byte bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof value);
  spoil(how, bytes, 0, dtype);
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

TEST(Spoil, StepsAwayFromZeroByUlpsOfTheStoredType) {
  for (const float x : {1.0f, -1.0f, 3.5e-3f, -2e20f, 0.99999994f})
    EXPECT_EQ(spoiled(ulps(1), x, DType::f32), std::nextafter(x, x > 0 ? INFINITY : -INFINITY));
  EXPECT_EQ(spoiled(ulps(1), 1.0, DType::f64), 1.0 + std::numeric_limits<double>::epsilon());
  EXPECT_EQ(f16_to_f32(spoiled(ulps(1), f32_to_f16(-1.0f), DType::f16)), -1.0f - 0x1p-10f);
}

TEST(Spoil, NeverFlipsTheSignNorLeavesTheFiniteNumbers) {
  EXPECT_EQ(spoiled(ulps(1), 0.0f, DType::f32), std::numeric_limits<float>::denorm_min());
  EXPECT_EQ(spoiled(ulps(1), -0.0f, DType::f32), -std::numeric_limits<float>::denorm_min());
  const float largest = std::numeric_limits<float>::max();
  EXPECT_EQ(spoiled(ulps(1), largest, DType::f32), largest);
}

TEST(Spoil, ByFractionBySumAndNan) {
  Spoil fault = ulps(1);
  fault.rel = 0.5;
  EXPECT_EQ(spoiled(fault, -2.0f, DType::f32), -3.0f);
  fault.rel.reset();
  fault.add = 0.25;
  EXPECT_EQ(spoiled(fault, -2.0, DType::f64), -1.75);
  EXPECT_EQ(f16_to_f32(spoiled(fault, f32_to_f16(1.0f), DType::f16)), 1.25f);
  const Spoil nan{.nan = true};
  EXPECT_TRUE(std::isnan(spoiled(nan, 1.0f, DType::f32)));
  EXPECT_TRUE(std::isnan(f16_to_f32(spoiled(nan, f32_to_f16(1.0f), DType::f16))));
}

TEST(Spoil, CodesStepInTheirBlock) {
  BlockQ8F32 blocks[2] = {};
  blocks[1].d = 0.5f;
  blocks[1].q[3] = -4;
  blocks[1].q[4] = 127;
  const auto row = reinterpret_cast<std::byte*>(blocks);
  spoil(ulps(1), row, 35, DType::q8_f32);
  EXPECT_EQ(blocks[1].q[3], -5);
  spoil(ulps(1), row, 36, DType::q8_f32);
  EXPECT_EQ(blocks[1].q[4], 127);
  spoil({.add = 1.5}, row, 35, DType::q8_f32);
  EXPECT_EQ(blocks[1].q[3], -2);
  spoil({.nan = true}, row, 35, DType::q8_f32);
  EXPECT_TRUE(std::isnan(blocks[1].d));
  EXPECT_EQ(blocks[0].d, 0.0f);
}

TEST(Spoil, CountsChangedElements) {
  const std::vector<std::byte> a(16), b = [] {
    std::vector<std::byte> bytes(16);
    bytes[5] = std::byte{1};
    bytes[6] = std::byte{1};
    bytes[15] = std::byte{1};
    return bytes;
  }();
  EXPECT_EQ(changed_elements(a, b, DType::f32), 2);
  EXPECT_EQ(changed_elements(a, b, DType::f16), 3);
  EXPECT_EQ(changed_elements(a, a, DType::f64), 0);
}

}  // namespace
}  // namespace greta
