#include "fault/spoil.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>

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
  const bool did = spoil(fault, bytes, dtype);
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
