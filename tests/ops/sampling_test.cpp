#include "ops/sampling.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace greta {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();

TEST(Sampling, WeightsAreFixedPointExponentials) {
  EXPECT_EQ(sampled_weight(0.0), std::uint64_t{1} << 40);
  EXPECT_NEAR(static_cast<double>(sampled_weight(std::log(2.0))), 0x1p39, 1.0);
  EXPECT_NEAR(static_cast<double>(sampled_weight(1e-9)), 0x1p40 * (1 - 1e-9), 1.0);
  for (int i = 1; i < 28 * 64; ++i) {
    const double distance = static_cast<double>(i) / 64;
    const long double truth = std::exp(-static_cast<long double>(distance)) * 0x1p40L;
    EXPECT_NEAR(static_cast<double>(sampled_weight(distance)), static_cast<double>(std::floor(truth)), 1.0) << distance;
    EXPECT_LE(sampled_weight(distance), sampled_weight(distance - 1.0 / 64));
  }
  EXPECT_EQ(sampled_weight(27.0), 2u);  // 2^40 e^-27 = 2.06
  EXPECT_EQ(sampled_weight(28.0), 0u);
  EXPECT_EQ(sampled_weight(kInf), 0u);
}

TEST(Sampling, DistancesOfInfinitiesAreNumbers) {
  EXPECT_EQ(sampled_distance(1.0, 3.0, 0.5), 4.0);
  EXPECT_EQ(sampled_distance(kInf, kInf, 1.0), 0.0);
  EXPECT_EQ(sampled_distance(-kInf, -kInf, 1.0), 0.0);
  EXPECT_EQ(sampled_distance(5.0, kInf, 1.0), kInf);
}

TEST(Sampling, TargetsStayBelowTheirSums) {
  EXPECT_EQ(nucleus_target(0.5, 10), 4u);   // sums of at least 5
  EXPECT_EQ(nucleus_target(0.55, 10), 5u);  // of at least 5.5: 6
  EXPECT_EQ(nucleus_target(1e-30, 10), 0u);
  const std::uint64_t large = (std::uint64_t{1} << 62) + 1;  // float64 has no such number
  EXPECT_LT(nucleus_target(std::nextafter(1.0, 0.0), large), large);
  EXPECT_EQ(drawn_target(0.0, 10), 0u);
  EXPECT_EQ(drawn_target(0.5, 10), 5u);
  EXPECT_EQ(drawn_target(std::nextafter(1.0, 0.0), 10), 9u);
  EXPECT_LT(drawn_target(std::nextafter(1.0, 0.0), (std::uint64_t{1} << 62) - 1), (std::uint64_t{1} << 62) - 1);
}

}  // namespace
}  // namespace greta
