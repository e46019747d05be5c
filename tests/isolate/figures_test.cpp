// Figures against closed forms.
#include "isolate/figures.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace greta::isolate {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();
constexpr double kInfinity = std::numeric_limits<double>::infinity();

std::vector<double> one_to(int n) {
  std::vector<double> values(static_cast<std::size_t>(n));
  std::iota(values.begin(), values.end(), 1.0);
  std::reverse(values.begin(), values.end());
  return values;
}

TEST(Percentile, IsTheNearestRank) {
  EXPECT_EQ(percentile(one_to(100), 0.99), 99);
  EXPECT_EQ(percentile(one_to(101), 0.99), 100);  // ceil(99.99)
  EXPECT_EQ(percentile(one_to(1000), 0.99), 990);
  EXPECT_EQ(percentile(one_to(7), 0.99), 7);
  EXPECT_EQ(percentile(one_to(7), 1), 7);
  EXPECT_EQ(percentile(one_to(4), 0.5), 2);
  EXPECT_EQ(percentile({3.5}, 0.01), 3.5);
  EXPECT_EQ(percentile({}, 0.99), std::nullopt);
  EXPECT_TRUE(std::isnan(*percentile({1, kNaN, 2}, 0.5)));
  EXPECT_EQ(percentile({1, kInfinity}, 1), kInfinity);
}

TEST(KlDivergence, OfTwoTokensHasAClosedForm) {
  const std::vector<double> half = {std::log(0.5), std::log(0.5)}, quarter = {std::log(0.25), std::log(0.75)};
  EXPECT_NEAR(kl_divergence(half, quarter), 0.5 * std::log(4.0 / 3), 1e-15);
  EXPECT_NEAR(kl_divergence(quarter, half), 0.25 * std::log(0.5) + 0.75 * std::log(1.5), 1e-15);  // not symmetric
}

TEST(KlDivergence, LogitsAreKnownUpToAConstant) {
  const std::vector<double> a = {1000 + std::log(0.5), 1000 + std::log(0.5)},
                            b = {-700 + std::log(0.25), -700 + std::log(0.75)};
  EXPECT_NEAR(kl_divergence(a, b), 0.5 * std::log(4.0 / 3), 1e-12);
  EXPECT_EQ(kl_divergence(a, a), 0);
}

TEST(KlDivergence, OfUniformAgainstOneRaisedLogit) {
  // n equal logits against the same with the first raised by d: ln(n - 1 + e^d) - ln n - d / n.
  const int n = 50;
  const double d = 2;
  std::vector<double> a(n, 0.0), b(n, 0.0);
  b[0] = d;
  EXPECT_NEAR(kl_divergence(a, b), std::log(n - 1 + std::exp(d)) - std::log(n) - d / n, 1e-14);
}

TEST(KlDivergence, AtTheEdges) {
  EXPECT_EQ(kl_divergence(std::vector{0.0, -kInfinity}, std::vector{0.0, 0.0}), std::log(2.0));
  EXPECT_EQ(kl_divergence(std::vector{0.0, 0.0}, std::vector{0.0, -kInfinity}), kInfinity);
  EXPECT_TRUE(std::isnan(kl_divergence(std::vector{0.0, kNaN}, std::vector{0.0, 0.0})));
  EXPECT_TRUE(std::isnan(kl_divergence(std::vector{0.0, 0.0}, std::vector{0.0, kNaN})));
  EXPECT_TRUE(std::isnan(kl_divergence(std::vector{kInfinity}, std::vector{0.0})));
  EXPECT_TRUE(std::isnan(kl_divergence(std::vector{-kInfinity}, std::vector{-kInfinity})));
  EXPECT_TRUE(std::isnan(kl_divergence(std::vector<double>{}, std::vector<double>{})));
  EXPECT_TRUE(std::isnan(kl_divergence(std::vector{0.0, 1.0}, std::vector{0.0})));
}

/// Rows [3, 4] of ffn_norm, one a position; of those in `off`, arm B's second element is that much larger: relative RMS off
/// / 5.
PromptPair rows(int n, const std::map<int, double>& off) {
  PromptPair pair;
  pair.a.prompt_id = pair.b.prompt_id = "p";
  pair.a.exp = pair.b.exp = "E1";
  pair.b.arm = 'b';
  for (Capture* arm : {&pair.a, &pair.b}) {
    arm->tokens.assign(static_cast<std::size_t>(n), 7);
    arm->n_prompt = n;
    arm->n_layers = 1;
    for (int position = 0; position < n; ++position) {
      StageRecord record;
      record.stage = Stage::ffn_norm;
      record.position = position;
      record.token_id = 7;
      const auto met = off.find(position);
      const double extra = arm == &pair.b && met != off.end() ? met->second : 0;
      record.print.count = 2;
      record.print.sample = {3, 4 + extra};
      record.print.hash = {extra != 0 ? 2u : 1u, 1};
      record.print.rms = std::sqrt((9 + (4 + extra) * (4 + extra)) / 2);
      record.print.mean = (7 + extra) / 2;
      record.print.nan = std::isnan(extra) ? 1 : 0;
      arm->records.push_back(record);
    }
  }
  return pair;
}

TEST(Figures, RowsAreMeasuredByRelativeRms) {
  const PromptFigures equal = measure_figures(rows(100, {}), {}, {}, {});
  EXPECT_EQ(equal.rows, 100);
  EXPECT_EQ(equal.p99, 0);
  EXPECT_EQ(equal.max, 0);
  const PromptFigures one = measure_figures(rows(100, {{40, 0.5}}), {}, {}, {});
  EXPECT_EQ(one.p99, 0);  // the 99th of 100 rows
  EXPECT_NEAR(*one.max, 0.1, 1e-15);
  const PromptFigures two = measure_figures(rows(100, {{40, 0.5}, {41, 0.25}}), {}, {}, {});
  EXPECT_NEAR(*two.p99, 0.05, 1e-15);
  EXPECT_NEAR(*two.max, 0.1, 1e-15);
  EXPECT_EQ(two.lower_bound, 0);
  EXPECT_EQ(two.top1_agreement, std::nullopt);
  EXPECT_EQ(two.kl, std::nullopt);
}

TEST(Figures, RowsWithoutElementsGiveALowerBoundAndSaySo) {
  PromptPair pair = rows(10, {{4, 1.0}});
  for (Capture* arm : {&pair.a, &pair.b})
    for (StageRecord& record : arm->records) record.print.sample.clear();
  const PromptFigures figures = measure_figures(pair, {}, {}, {});
  EXPECT_EQ(figures.lower_bound, 1);
  // RMS 5/sqrt(2) and sqrt(17): the difference, or that of the means, 1/2; relative to the first.
  EXPECT_NEAR(*figures.max, std::max(std::sqrt(17.0) - 5 / std::sqrt(2.0), 0.5) / (5 / std::sqrt(2.0)), 1e-15);
}

TEST(Figures, ANaNRowCannotBeMeasured) {
  const PromptFigures figures = measure_figures(rows(10, {{4, kNaN}}), {}, {}, {});
  EXPECT_TRUE(std::isnan(*figures.p99));
  EXPECT_TRUE(std::isnan(*figures.max));
}

TEST(Figures, OtherTokensAreNotMeasured) {
  PromptPair pair = rows(10, {});
  pair.b.tokens[3] = 8;
  pair.b.records[3].token_id = 8;
  const PromptFigures figures = measure_figures(pair, {}, {}, {});
  EXPECT_EQ(figures.rows, 0);
  EXPECT_EQ(figures.max, std::nullopt);
}

TEST(Figures, LogitsAreMeasuredAtEveryPositionThatBothHave) {
  PromptPair pair = rows(4, {});
  LogitsRows a, b;
  const auto add = [](Capture& arm, LogitsRows& kept, int position, std::int32_t top, double p) {
    LogitsRecord record;
    record.position = position;
    record.top1_id = top;
    record.hash = {static_cast<std::uint64_t>(position), static_cast<std::uint64_t>(p * 1000)};
    arm.logits.push_back(record);
    kept[position] = {std::log(p), std::log(1 - p)};
  };
  add(pair.a, a, 1, 0, 0.5);  // A alone has this one
  for (const int position : {2, 3, 4, 5}) add(pair.a, a, position, 1, 0.5);
  for (const int position : {2, 3, 4}) add(pair.b, b, position, 1, 0.5);
  add(pair.b, b, 5, 0, 0.75);
  const PromptFigures figures = measure_figures(pair, {}, a, b);
  EXPECT_EQ(figures.positions, 4);
  EXPECT_EQ(figures.top1_agreement, 0.75);
  const double kl = 0.5 * std::log(4.0 / 3);
  EXPECT_NEAR(*figures.kl, kl / 4, 1e-15);
  EXPECT_NEAR(*figures.kl_max, kl, 1e-15);
  b.erase(3);
  const PromptFigures lacking = measure_figures(pair, {}, a, b);
  EXPECT_EQ(lacking.kl, std::nullopt);
  EXPECT_EQ(lacking.kl_max, std::nullopt);
  EXPECT_EQ(lacking.top1_agreement, 0.75);
  for (Capture* arm : {&pair.a, &pair.b})
    for (LogitsRecord& record : arm->logits) record.top1_id = -1;  // no logit is a number
  EXPECT_EQ(measure_figures(pair, {}, a, b).top1_agreement, 0);
}

}  // namespace
}  // namespace greta::isolate
