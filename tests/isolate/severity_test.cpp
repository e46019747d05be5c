// What a difference means for the tokens sampled.
#include "isolate/severity.h"

#include <gtest/gtest.h>

#include <cmath>

#include "trace/fingerprint.h"

namespace greta::isolate {
namespace {

/// Standard deviation of the difference of two errors of RMS r: sqrt(2) r. One, two and three of them: the normal tail.
TEST(Severity, TheRiskIsTheTailOfANormalDistribution) {
  const double rms = 0.25, deviation = std::sqrt(2.0) * rms;
  EXPECT_DOUBLE_EQ(flip_risk(0, rms), 0.5);
  EXPECT_NEAR(flip_risk(1 * deviation, rms), 0.158655253931457, 1e-12);
  EXPECT_NEAR(flip_risk(2 * deviation, rms), 0.022750131948179, 1e-12);
  EXPECT_NEAR(flip_risk(3 * deviation, rms), 0.001349898031630, 1e-12);
  EXPECT_EQ(flip_risk(1, 0), 0);
}

Capture arm(const std::vector<std::vector<float>>& logits) {
  Capture capture;
  for (std::size_t p = 0; p < logits.size(); ++p) {
    StageRecord row;
    row.stage = Stage::logits;
    row.position = static_cast<std::int32_t>(p);
    row.dtype = DType::f32;
    row.print = fingerprint(reinterpret_cast<const std::byte*>(logits[p].data()), DType::f32,
                            static_cast<std::int64_t>(logits[p].size()), {});
    capture.records.push_back(row);
    LogitsRecord top;
    top.position = row.position;
    for (std::size_t i = 0; i < logits[p].size(); ++i) {
      const double x = static_cast<double>(logits[p][i]);
      if (top.top1_id < 0 || x > top.top1_logit) {
        top.top2_id = top.top1_id, top.top2_logit = top.top1_logit;
        top.top1_id = static_cast<std::int32_t>(i), top.top1_logit = x;
      } else if (top.top2_id < 0 || x > top.top2_logit) {
        top.top2_id = static_cast<std::int32_t>(i), top.top2_logit = x;
      }
    }
    capture.logits.push_back(top);
  }
  return capture;
}

TEST(Severity, CountsFlipsAndNamesTheNearestOfTheOthers) {
  const Capture a = arm({{3, 1, 0, 0}, {2, 1.9f, 0, 0}, {5, 0, 1, 0}});
  const Capture b = arm({{3, 1, 0.1f, 0}, {1.8f, 1.9f, 0, 0}, {5, 0, 1, 0}});
  const auto found = severity(a, b);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->positions, 3);
  EXPECT_EQ(found->flips, 1);
  EXPECT_EQ(found->first_flip, 1);
  EXPECT_EQ(found->riskiest, 0);
  EXPECT_GE(found->largest_risk, 0);
  EXPECT_LT(found->largest_risk, 1e-9);  // a gap of 2 against an error of RMS 0.05
}

TEST(Severity, OfEqualArmsIsNone) {
  const Capture a = arm({{3, 1, 0, 0}, {2, 1, 0, 0}});
  const auto found = severity(a, a);
  ASSERT_TRUE(found);
  EXPECT_EQ(found->flips, 0);
  EXPECT_EQ(found->largest_risk, 0);
  EXPECT_FALSE(severity(a, Capture()));
}

}  // namespace
}  // namespace greta::isolate
