#include "engine/sampler.h"

#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <vector>

#include "core/error.h"

namespace greta {
namespace {

TEST(Argmax, TiesGoToTheLowestIdAndNanIsNeverChosen) {
  EXPECT_EQ(argmax(std::vector<double>{1, 3, 3, 2}), 1);
  EXPECT_EQ(argmax(std::vector<double>{NAN, -5, NAN}), 1);
  EXPECT_EQ(argmax(std::vector<double>{-INFINITY, -INFINITY}), 0);
  EXPECT_EQ(argmax(std::vector<double>{NAN, NAN}), -1);
}

TEST(Sampler, FollowsTheSoftmaxAtTemperatureOne) {
  Sampler sampler({.temperature = 1.0, .seed = 7});
  const std::vector<double> logits{std::log(0.5), std::log(0.3), std::log(0.2)};
  std::map<std::int32_t, int> counts;
  constexpr int kDraws = 100'000;
  for (int i = 0; i < kDraws; ++i) ++counts[sampler.sample(logits)];
  // 5 standard deviations of a binomial are below 0.008.
  EXPECT_NEAR(counts[0] / static_cast<double>(kDraws), 0.5, 0.008);
  EXPECT_NEAR(counts[1] / static_cast<double>(kDraws), 0.3, 0.008);
  EXPECT_NEAR(counts[2] / static_cast<double>(kDraws), 0.2, 0.008);
}

TEST(Sampler, TopKAndTopPCutTheTail) {
  const std::vector<double> logits{std::log(0.5), std::log(0.3), std::log(0.2)};
  Sampler two({.temperature = 1.0, .top_k = 2, .seed = 1});
  Sampler nucleus({.temperature = 1.0, .top_p = 0.6, .seed = 1});
  for (int i = 0; i < 2000; ++i) {
    EXPECT_NE(two.sample(logits), 2);
    EXPECT_NE(nucleus.sample(logits), 2);  // 0.5 < 0.6 <= 0.8: two tokens stay
  }
}

TEST(SampleToken, UnitsRunThroughTheTokensInOrderOfTheirLogits) {
  const std::vector<double> logits{std::log(0.2), std::log(0.5), NAN, std::log(0.3)};
  const auto token = [&](double unit, SamplerOptions options) { return sample_token(logits, options, unit); };
  const SamplerOptions all{.temperature = 1.0}, two{.temperature = 1.0, .top_k = 2}, nucleus{.temperature = 1.0, .top_p = 0.6};
  EXPECT_EQ(token(0.0, all), 1);
  EXPECT_EQ(token(0.499, all), 1);
  EXPECT_EQ(token(0.501, all), 3);
  EXPECT_EQ(token(0.799, all), 3);
  EXPECT_EQ(token(0.801, all), 0);
  EXPECT_EQ(token(std::nextafter(1.0, 0.0), all), 0);
  for (const SamplerOptions& cut : {two, nucleus}) {  // 0.5 of 0.8 is 0.625
    EXPECT_EQ(token(0.624, cut), 1);
    EXPECT_EQ(token(0.626, cut), 3);
    EXPECT_EQ(token(std::nextafter(1.0, 0.0), cut), 3);
  }
  EXPECT_EQ(token(0.9, {.temperature = 1.0, .top_p = 0.49}), 1);
  EXPECT_EQ(token(0.9, {.temperature = 0.0}), 1);
  // At temperature 2 the weights are the square roots: 0.707, 0.548, 0.447.
  EXPECT_EQ(token(0.415, {.temperature = 2.0}), 1);
  EXPECT_EQ(token(0.416, {.temperature = 2.0}), 3);
  EXPECT_EQ(sample_token(std::vector<double>{NAN}, all, 0.5), -1);
  EXPECT_EQ(sample_token(std::vector<double>{1.0, 2.0, 2.0}, {.temperature = 1e-3}, 0.49), 1);
  EXPECT_EQ(sample_token(std::vector<double>{1.0, 2.0, 2.0}, {.temperature = 1e-3}, 0.51), 2);
}

TEST(Sampler, SameSeedSameTokens) {
  const std::vector<double> logits{0.1, 0.2, 0.3, 0.4};
  Sampler a({.temperature = 2.0, .seed = 3}), b({.temperature = 2.0, .seed = 3}), c({.temperature = 2.0, .seed = 4});
  std::vector<std::int32_t> from_a, from_b, from_c;
  for (int i = 0; i < 64; ++i) {
    from_a.push_back(a.sample(logits));
    from_b.push_back(b.sample(logits));
    from_c.push_back(c.sample(logits));
  }
  EXPECT_EQ(from_a, from_b);
  EXPECT_NE(from_a, from_c);
}

TEST(Sampler, RefusesNonsense) {
  EXPECT_THROW(Sampler({.temperature = -1}), Error);
  EXPECT_THROW(Sampler({.temperature = NAN}), Error);
  EXPECT_THROW(Sampler({.top_k = -1}), Error);
  EXPECT_THROW(Sampler({.top_p = 0}), Error);
  EXPECT_THROW(Sampler({}).sample(std::vector<double>{NAN}), Error);
}

}  // namespace
}  // namespace greta
