// Our own double exp, sine and cosine against long double, and the RoPE frequencies against their closed form.
#include "ops/cpu/math64.h"

#include <gtest/gtest.h>

#include <cmath>
#include <iostream>
#include <limits>
#include <random>

namespace greta::test {
namespace {

TEST(Exp64, IsWithinOneUlp) {
  std::mt19937_64 random(1);
  double worst = 0;
  for (const double range : {1e-9, 1e-3, 0.3, 1.0, 30.0, 708.0}) {
    std::uniform_real_distribution<double> uniform(-range, range);
    for (int i = 0; i < 100000; ++i) {
      const double x = uniform(random);
      const long double truth = std::exp(static_cast<long double>(x));
      const double nearest = static_cast<double>(truth);
      const double ulp = std::nextafter(nearest, std::numeric_limits<double>::infinity()) - nearest;
      worst = std::max(
          worst, static_cast<double>(std::fabs(static_cast<long double>(exp64(x)) - truth) / static_cast<long double>(ulp)));
    }
  }
  std::cout << "worst error " << worst << " ULP\n";
  EXPECT_LE(worst, 1.0);
}

TEST(Exp64, EdgesAreIeee) {
  const double infinity = std::numeric_limits<double>::infinity();
  EXPECT_EQ(exp64(0.0), 1.0);
  EXPECT_EQ(exp64(-0.0), 1.0);
  EXPECT_EQ(exp64(infinity), infinity);
  EXPECT_EQ(exp64(-infinity), 0.0);
  EXPECT_EQ(exp64(709.8), infinity);
  EXPECT_EQ(exp64(-745.2), 0.0);
  EXPECT_EQ(exp64(-745.0), 0x1p-1074);
  EXPECT_EQ(exp64(-1e300), 0.0);
  EXPECT_TRUE(std::isnan(exp64(std::numeric_limits<double>::quiet_NaN())));
}

TEST(Tanh64, IsWithinThreeUlpAndSaturates) {
  std::mt19937_64 random(3);
  double worst = 0;
  for (const double range : {1e-300, 1e-9, 0.01, 0.3, 0.4, 2.0, 25.0}) {
    std::uniform_real_distribution<double> uniform(-range, range);
    for (int i = 0; i < 50000; ++i) {
      const double x = uniform(random);
      const long double truth = std::tanh(static_cast<long double>(x));
      const double nearest = std::fabs(static_cast<double>(truth));
      const double ulp = std::nextafter(nearest, 2.0) - nearest;
      worst = std::max(worst, static_cast<double>(std::fabs(static_cast<long double>(tanh64(x)) - truth)) / ulp);
    }
  }
  std::cout << "worst error " << worst << " ULP\n";
  EXPECT_LE(worst, 3.0);
  EXPECT_EQ(tanh64(1e300), 1.0);
  EXPECT_EQ(tanh64(-std::numeric_limits<double>::infinity()), -1.0);
  EXPECT_TRUE(std::signbit(tanh64(-0.0)));
  EXPECT_TRUE(std::isnan(tanh64(std::numeric_limits<double>::quiet_NaN())));
}

TEST(SinCos64, IsWithinTwoTenthsOfAMillionthOfABillionth) {
  std::mt19937_64 random(2);
  long double worst = 0;
  const auto check = [&](double x) {
    const SinCos got = sincos64(x);
    worst = std::max(worst, std::fabs(static_cast<long double>(got.sin) - std::sin(static_cast<long double>(x))));
    worst = std::max(worst, std::fabs(static_cast<long double>(got.cos) - std::cos(static_cast<long double>(x))));
  };
  for (const double range : {1e-8, 0.8, 7.0, 4096.0, 131072.0, 1e6, 0x1p31}) {
    std::uniform_real_distribution<double> uniform(-range, range);
    for (int i = 0; i < 60000; ++i) check(uniform(random));
  }
  // Next to multiples of pi/2, where the reduction cancels most, and every whole position up to 131072.
  for (int n = 1; n < 60000; n += 7)
    check(static_cast<double>(static_cast<long double>(n) * 1.57079632679489661923132169163975144L));
  for (int position = 0; position <= 131072; ++position) check(position);
  std::cout << "worst error " << worst << "\n";
  EXPECT_LE(worst, 2e-16L);
}

TEST(SinCos64, EdgesAndSigns) {
  EXPECT_EQ(sincos64(0.0).sin, 0.0);
  EXPECT_EQ(sincos64(0.0).cos, 1.0);
  EXPECT_EQ(sincos64(-1.0).sin, -sincos64(1.0).sin);
  EXPECT_EQ(sincos64(-1.0).cos, sincos64(1.0).cos);
  EXPECT_TRUE(std::isnan(sincos64(std::numeric_limits<double>::infinity()).sin));
  EXPECT_TRUE(std::isnan(sincos64(std::numeric_limits<double>::quiet_NaN()).cos));
  EXPECT_TRUE(std::isnan(sincos64(0x1p31).cos));
}

TEST(RopeFrequencies, AreThePowersOfTheta) {
  for (const double theta : {2.0, 100.0, 10000.0, 500000.0, 1e6, 1e9}) {
    for (const int n_rot : {2, 6, 8, 48, 64, 80, 128, 256}) {
      const std::vector<double> got = rope_frequencies({theta, n_rot, n_rot, true, 1.0, {}});
      ASSERT_EQ(got.size(), static_cast<std::size_t>(n_rot / 2));
      EXPECT_EQ(got[0], 1.0);
      for (std::size_t i = 0; i < got.size(); ++i) {
        const long double want = std::pow(static_cast<long double>(theta), -2.0L * static_cast<long double>(i) / n_rot);
        EXPECT_LE(std::fabs(static_cast<long double>(got[i]) - want), want * 0x1.2p-53L) << theta << ' ' << n_rot << ' ' << i;
      }
    }
  }
}

TEST(RopeFrequencies, ScaleAndFactorsDivide) {
  const std::vector<float> factors = {1.0f, 8.0f};
  const std::vector<double> got = rope_frequencies({10000.0, 4, 4, true, 4.0, factors});
  EXPECT_EQ(got, (std::vector<double>{0.25, 0.01 / 4 / 8}));
  EXPECT_TRUE(rope_frequencies({10000.0, 4, 0, true, 1.0, {}}).empty());
}

}  // namespace
}  // namespace greta::test
