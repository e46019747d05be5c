// The table's columns and the collapse rule.
#include "isolate/table.h"

#include <gtest/gtest.h>

#include "tests/isolate/toy.h"

namespace greta::isolate {
namespace {

PromptOutcome prompt(const char* id, std::optional<int> prefill_top1, std::optional<int> decode_top1) {
  PromptOutcome outcome;
  outcome.id = id;
  outcome.table.prefill_last_top1 = prefill_top1;
  outcome.table.decode0_top1 = decode_top1;
  return outcome;
}

TEST(Collapse, TheReportsTable) {
  std::vector<PromptOutcome> prompts = {prompt("p0_short", 96965, 96965), prompt("p4_sys", 93590, 96965),
                                        prompt("p6_long", 99668, 96965)};
  const Collapse collapse = judge_collapse(prompts, std::nullopt);
  EXPECT_EQ(collapse.id, 96965);
  EXPECT_EQ(collapse.rule, CollapseRule::attractor);
  EXPECT_TRUE(collapse.value);
  EXPECT_EQ(collapse.rows, 3);
  for (const auto& row : prompts) EXPECT_EQ(row.table.collapse, true);
}

TEST(Collapse, OneTokenThatIsRightForAllIsNoAttractor) {
  std::vector<PromptOutcome> prompts = {prompt("x", 11, 11), prompt("y", 11, 11)};
  const Collapse collapse = judge_collapse(prompts, std::nullopt);
  EXPECT_EQ(collapse.id, kDefaultCollapseToken);
  EXPECT_EQ(collapse.rule, CollapseRule::fallback);
  EXPECT_FALSE(collapse.value);
  EXPECT_EQ(prompts[0].table.collapse, false);
}

TEST(Collapse, TheAttractorIsTheTokenOfMostRowsThenTheLowest) {
  std::vector<PromptOutcome> prompts = {prompt("a", 1, 7), prompt("b", 2, 7), prompt("c", 3, 9), prompt("d", 4, 9),
                                        prompt("e", 5, 8)};
  EXPECT_EQ(judge_collapse(prompts, std::nullopt).id, 7);
  prompts.push_back(prompt("f", 9, 9));
  EXPECT_EQ(judge_collapse(prompts, std::nullopt).id, 9);
  EXPECT_EQ(prompts[0].table.collapse, false);
  EXPECT_EQ(prompts[5].table.collapse, true);
}

TEST(Collapse, AGivenTokenStands) {
  std::vector<PromptOutcome> prompts = {prompt("a", 1, 7), prompt("b", 2, 7), prompt("c", std::nullopt, std::nullopt)};
  const Collapse collapse = judge_collapse(prompts, 0);
  EXPECT_EQ(collapse.id, 0);
  EXPECT_EQ(collapse.rule, CollapseRule::given);
  EXPECT_FALSE(collapse.value);
  EXPECT_EQ(prompts[0].table.collapse, false);
  EXPECT_FALSE(prompts[2].table.collapse.has_value());
  EXPECT_TRUE(judge_collapse(prompts, 7).value);
}

TEST(Table, MaesAreTakenAtTheFirstMismatchingLayer) {
  test::ToyFaults faults = {{{4, 2, Stage::wo_out}, 0.5}};
  const Outcome outcome = judge({test::toy_pair({}, faults)}, {}, {});
  const TableRow& row = outcome.prompts.front().table;
  EXPECT_EQ(row.layer, 2);
  EXPECT_EQ(row.mae_of(Stage::x_in), 0.0);
  EXPECT_NEAR(*row.mae_of(Stage::wo_out), 0.5 / 8, 1e-15);
  EXPECT_GT(*row.mae_of(Stage::ffn_norm), 0.0);
  EXPECT_GT(*row.mae_of(Stage::final_rms), 0.0);
  EXPECT_GT(std::abs(*row.logits_mean_delta), 0.0);
}

TEST(Table, AHealthyRowTakesTheFirstTracedLayer) {
  PromptPair pair = test::toy_pair();
  for (Capture* capture : {&pair.a, &pair.b})
    std::erase_if(capture->records, [](const StageRecord& r) { return !once_per_token(r.stage) && r.layer < 1; });
  const TableRow row = judge({pair}, {}, {}).prompts.front().table;
  EXPECT_EQ(row.layer, 1);
  EXPECT_EQ(row.mae_of(Stage::ffn_norm), 0.0);
  EXPECT_EQ(row.logits_mean_delta, 0.0);
}

TEST(Table, AMismatchOfThePrefixStillMeasuresDecode0AgainstPrefillLast) {
  const Outcome outcome = judge({test::toy_pair({}, {{{1, 1, Stage::ffn_up}, 0.5}})}, {}, {});
  const TableRow& row = outcome.prompts.front().table;
  EXPECT_EQ(row.first_mismatch_pos, 1);
  EXPECT_EQ(row.layer, 1);
  EXPECT_EQ(row.mae_of(Stage::ffn_norm), 0.0);    // at position 4, layer 1 is still healthy
  EXPECT_GT(*row.mae_of(Stage::final_rms), 0.0);  // layer 2 read position 1
}

TEST(Table, AStageThatWasNotRecordedHasNoMae) {
  PromptPair pair = test::toy_pair();
  for (Capture* capture : {&pair.a, &pair.b})
    std::erase_if(capture->records, [](const StageRecord& r) { return r.stage == Stage::mlp_out; });
  EXPECT_FALSE(judge({pair}, {}, {}).prompts.front().table.mae_of(Stage::mlp_out));
}

}  // namespace
}  // namespace greta::isolate
