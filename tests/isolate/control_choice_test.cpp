// Where controls are planted in rows that a sliding window masks: never in a hidden key.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "isolate/control_run.h"

namespace greta::isolate {
namespace {

constexpr double kHidden = -std::numeric_limits<double>::infinity();

/// A row [2 heads, position + 1] of which the slice holds `sample`.
StageRecord keys_row(Stage stage, int position, std::vector<double> sample) {
  StageRecord record;
  record.stage = stage;
  record.position = position;
  record.phase = Phase::decode;
  record.print.count = 2 * (position + 1);
  for (const double x : sample) (std::isinf(x) ? record.print.inf : record.print.zero) += std::isinf(x) || x == 0 ? 1 : 0;
  record.print.sample = std::move(sample);
  return record;
}

std::int64_t chosen_index(const StageRecord& record, std::uint64_t seed) {
  const PromptPair pair;
  const std::vector<RecordPair> pairs{{&record, &record, false}};
  const std::vector<ControlGround> grounds{{&pair, nullptr, nullptr, &pairs, false, true}};
  const auto plan = plan_controls(grounds, {}, seed);
  EXPECT_EQ(plan.size(), 1u);
  return plan.empty() ? -1 : plan.front().spec.index;
}

TEST(ControlChoice, TakesAVisibleElementOfTheSlice) {
  const StageRecord record = keys_row(Stage::attn_scores, 5, {kHidden, kHidden, kHidden, 0.7, kHidden, kHidden});
  for (std::uint64_t seed = 0; seed < 20; ++seed) EXPECT_EQ(chosen_index(record, seed), 3);
}

TEST(ControlChoice, TakesTheRowsOwnKeyWhereTheWindowHidesTheWholeSlice) {
  // 2,000 keys of head 0 come first; the slice of 1,024 sees hidden ones only. Key 1999 is the token's own.
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    EXPECT_EQ(chosen_index(keys_row(Stage::attn_scores, 1999, std::vector<double>(1024, kHidden)), seed), 1999);
    EXPECT_EQ(chosen_index(keys_row(Stage::attn_probs, 1999, std::vector<double>(1024, 0.0)), seed), 1999);
  }
}

TEST(ControlChoice, OtherStagesHaveNoKeys) {
  EXPECT_LT(chosen_index(keys_row(Stage::mlp_out, 1999, std::vector<double>(1024, 0.0)), 3), 1024);
}

}  // namespace
}  // namespace greta::isolate
