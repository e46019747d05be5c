#include "fault/spoil.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/half.h"

namespace greta {
namespace {

FaultSpec ulps(std::int32_t n) {
  FaultSpec fault;
  fault.kind = FaultKind::perturb;
  fault.ulp = n;
  return fault;
}

template <class T>
T spoiled(const FaultSpec& fault, T value, DType dtype, bool* changed = nullptr) {
  std::byte bytes[sizeof(T)];
  std::memcpy(bytes, &value, sizeof value);
  const bool did = spoil(fault, bytes, 0, dtype) == 1;
  if (changed != nullptr) *changed = did;
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
  bool changed = true;
  EXPECT_EQ(spoiled(ulps(1), largest, DType::f32, &changed), largest);
  EXPECT_FALSE(changed);
}

TEST(Spoil, ByFractionBySumAndNan) {
  FaultSpec fault = ulps(1);
  fault.rel = 0.5;
  EXPECT_EQ(spoiled(fault, -2.0f, DType::f32), -3.0f);
  fault.rel.reset();
  fault.add = 0.25;
  EXPECT_EQ(spoiled(fault, -2.0, DType::f64), -1.75);
  EXPECT_EQ(f16_to_f32(spoiled(fault, f32_to_f16(1.0f), DType::f16)), 1.25f);
  FaultSpec nan;
  nan.kind = FaultKind::nan;
  EXPECT_TRUE(std::isnan(spoiled(nan, 1.0f, DType::f32)));
  EXPECT_TRUE(std::isnan(f16_to_f32(spoiled(nan, f32_to_f16(1.0f), DType::f16))));
}

/// One block of q8_0 written by hand: scale and codes.
struct Block {
  std::uint16_t d = 0;
  std::int8_t q[32] = {};
};
static_assert(sizeof(Block) == 34);

std::int64_t spoil_block(const FaultSpec& fault, Block& block, std::int64_t index) {
  Block row[2] = {{}, block};  // the second block of a row
  const std::int64_t changed = spoil(fault, reinterpret_cast<std::byte*>(row), 32 + index, DType::q8_0);
  EXPECT_EQ(row[0].d, 0);
  block = row[1];
  return changed;
}

TEST(Spoil, StepsACodeOfQ8_0AwayFromZero) {
  for (const auto& [from, to] : {std::pair{5, 6}, {-5, -6}, {0, 1}, {126, 127}, {-126, -127}}) {
    Block block{0x3800, {}};
    block.q[7] = static_cast<std::int8_t>(from);
    block.q[8] = 50;
    EXPECT_EQ(spoil_block(ulps(1), block, 7), 1) << from;
    EXPECT_EQ(block.q[7], to);
    EXPECT_EQ(block.q[8], 50);
    EXPECT_EQ(block.d, 0x3800);
  }
}

TEST(Spoil, StepsTheScaleOfQ8_0WhereTheCodeIsAtItsEnd) {
  for (const int end : {127, -127}) {
    Block block{0x3800, {}};
    block.q[0] = static_cast<std::int8_t>(end);
    block.q[31] = -3;
    EXPECT_EQ(spoil_block(ulps(1), block, 0), 2) << "both elements that are not zero move";
    EXPECT_EQ(block.q[0], end);
    EXPECT_EQ(block.d, 0x3801);
  }
  Block negative{0x8000 | 0x3800, {}};  // a scale below zero is no writer's, but a file may hold it
  negative.q[0] = 127;
  EXPECT_EQ(spoil_block(ulps(1), negative, 0), 1);
  EXPECT_EQ(negative.d, 0x8000 | 0x3801);
  Block zeros;
  EXPECT_EQ(spoil_block(ulps(1), zeros, 3), 1);
  EXPECT_EQ(zeros.d, 1);
  EXPECT_EQ(zeros.q[3], 1);
  Block largest{0x7bff, {}};
  largest.q[0] = 127;
  EXPECT_EQ(spoil_block(ulps(1), largest, 0), 0) << "never past the largest finite scale";
  Block two_steps{0x3800, {}};
  two_steps.q[0] = 126;
  EXPECT_EQ(spoil_block(ulps(2), two_steps, 0), 1);
  EXPECT_EQ(two_steps.q[0], 127);
  EXPECT_EQ(two_steps.d, 0x3801);
}

TEST(Spoil, Q8_0ByValueAndNan) {
  Block block{0x3c00, {}};  // scale 1
  block.q[0] = 127;
  block.q[1] = 10;
  FaultSpec fault = ulps(1);
  fault.add = 3.2;
  EXPECT_EQ(spoil_block(fault, block, 1), 1);
  EXPECT_EQ(block.q[1], 13);  // 13.2 rounded
  fault.add.reset();
  fault.rel = 1.0;
  EXPECT_EQ(spoil_block(fault, block, 0), 2);  // 254 takes the scale 2, which 13 feels
  EXPECT_EQ(block.d, 0x4000);
  EXPECT_EQ(block.q[0], 127);
  EXPECT_EQ(block.q[1], 7);
  FaultSpec nan;
  nan.kind = FaultKind::nan;
  EXPECT_EQ(spoil_block(nan, block, 1), 32);
  EXPECT_TRUE(std::isnan(f16_to_f32(block.d)));
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
