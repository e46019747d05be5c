// Verdicts by local error: what the judge of ops says decides where bit-equality is not claimed, and nowhere else.
#include <gtest/gtest.h>

#include <functional>

#include "isolate/judge.h"
#include "tests/isolate/toy.h"

namespace greta::isolate {
namespace {

using test::toy_pair;

/// A pair whose arms are not claimed to be bit-equal, and differ in every row from layer 0's `q` of position 2 on.
PromptPair routes_differ() {
  PromptPair pair = toy_pair({}, {{{2, 0, Stage::q}, 1e-3}});
  pair.b.plan = "float64";
  return pair;
}

LocalPair within() {
  LocalPair local;
  local.a.rows = local.b.rows = 330;
  local.a.worst_ratio = 0.25;
  local.a.worst = "attn_out layer 1 position 3";
  local.b.worst_ratio = 0.5;
  local.b.worst = "mlp_out layer 2 position 4";
  return local;
}

LocalFinding finding(Stage stage, int layer, int position) {
  return {
      .stage = stage, .layer = layer, .position = position, .step = 0, .ratio = 12, .what = "element 3 is off by 1, bound 0.1"};
}

Outcome judge_with(const PromptPair& pair, const LocalPair& local) {
  return judge({pair}, {}, RunInfo{}, {}, difference, [&](const std::string&) { return local; });
}

TEST(LocalJudgement, WithoutItLargeDifferencesOfHealthyRoutesAreBlamed) {
  EXPECT_EQ(judge({routes_differ()}, {}, RunInfo{}).judgement.reason, Reason::above_threshold);
}

TEST(LocalJudgement, RowsWithinTheirBoundsAgreeHoweverMuchTheyInherit) {
  const Outcome outcome = judge_with(routes_differ(), within());
  EXPECT_EQ(outcome.judgement.reason, Reason::within_bounds) << outcome.judgement.detail;
  EXPECT_EQ(outcome.exit_code(), 0);
  EXPECT_NE(outcome.judgement.detail.find("660 rows"), std::string::npos) << outcome.judgement.detail;
  EXPECT_NE(outcome.judgement.detail.find("0.5 of its bound (mlp_out layer 2 position 4)"), std::string::npos);
  EXPECT_NE(outcome.judgement.detail.find("the top-1 differs at"), std::string::npos);
  EXPECT_GT(outcome.controls.size(), 0u);
}

TEST(LocalJudgement, AGuiltyRowIsTheHeadlineThoughEarlierRowsDiffer) {
  LocalPair local = within();
  local.b.guilty = {finding(Stage::ffn_norm, 1, 4), finding(Stage::ffn_norm, 1, 5)};
  local.b.guilty_rows = 2;
  const Outcome outcome = judge_with(routes_differ(), local);
  EXPECT_EQ(outcome.judgement.reason, Reason::beyond_bound);
  EXPECT_EQ(outcome.exit_code(), 1);
  ASSERT_TRUE(outcome.prompts.front().first);
  EXPECT_EQ(outcome.prompts.front().first->stage, Stage::ffn_norm);
  EXPECT_EQ(outcome.prompts.front().first->layer, 1);
  EXPECT_EQ(outcome.prompts.front().first->position, 4);
  EXPECT_EQ(outcome.prompts.front().minimal.size(), 1u);
  EXPECT_EQ(outcome.prompts.front().table.first_mismatch_stage, "ffn_norm");
  EXPECT_NE(outcome.judgement.detail.find("of arm B: element 3 is off by 1, bound 0.1"), std::string::npos);
}

TEST(LocalJudgement, AGuiltyReferenceIsNoAgreementEither) {
  LocalPair local = within();
  local.a.guilty = {finding(Stage::q, 0, 2)};
  const Outcome outcome = judge_with(routes_differ(), local);
  EXPECT_EQ(outcome.judgement.reason, Reason::beyond_bound);
  EXPECT_NE(outcome.judgement.detail.find("of arm A"), std::string::npos);
}

TEST(LocalJudgement, RowsThatCouldNotBeJudgedForbidAnAgreement) {
  LocalPair local = within();
  local.b.unjudged = 7;
  local.b.first_unjudged = "x_in layer 1 position 0 was not kept";
  const Outcome outcome = judge_with(routes_differ(), local);
  EXPECT_EQ(outcome.judgement.reason, Reason::above_threshold);
  EXPECT_NE(outcome.judgement.detail.find("7 rows could not be held to their bounds: x_in layer 1 position 0 was not kept"),
            std::string::npos)
      << outcome.judgement.detail;
}

TEST(LocalJudgement, WhereBitEqualityIsClaimedBitsDecide) {
  const PromptPair pair = toy_pair({}, {{{2, 0, Stage::q}, 1e-3}});
  bool asked = false;
  const Outcome outcome = judge({pair}, {}, RunInfo{}, {}, difference, [&](const std::string&) {
    asked = true;
    return within();
  });
  EXPECT_EQ(outcome.judgement.reason, Reason::above_threshold);
  EXPECT_FALSE(asked);
}

/// A judge of controls that finds what `guilty` gives for each.
Outcome judge_with_controls(const std::function<std::vector<LocalFinding>(const ControlSpec&)>& guilty) {
  const LocalControlRunner controls = [&](const ControlSpec& spec) {
    LocalControl control{spec, guilty(spec)};
    control.spec.delta = 0.125;
    return std::optional(control);
  };
  return judge(
      {routes_differ()}, {}, RunInfo{}, {}, difference, [](const std::string&) { return within(); }, controls);
}

TEST(LocalControls, AreFoundWhereTheFirstGuiltyRowIsTheirOwn) {
  const Outcome outcome = judge_with_controls([](const ControlSpec& spec) {
    return std::vector{finding(spec.stage, spec.layer, spec.position), finding(Stage::x_out, 2, spec.position)};
  });
  EXPECT_EQ(outcome.judgement.reason, Reason::within_bounds) << outcome.judgement.detail;
  ASSERT_GT(outcome.controls.size(), 10u);
  for (const ControlResult& control : outcome.controls) {
    EXPECT_TRUE(control.found);
    EXPECT_EQ(control.met, "bound");
    EXPECT_EQ(control.spec.magnitude(), "+0.125");
  }
}

TEST(LocalControls, AJudgeThatNeverFindsAnythingIsVacuous) {
  const Outcome outcome = judge_with_controls([](const ControlSpec&) { return std::vector<LocalFinding>(); });
  EXPECT_EQ(outcome.judgement.reason, Reason::control_not_found);
  EXPECT_EQ(outcome.verdict(), Verdict::vacuous);
  EXPECT_EQ(outcome.controls_found(), 0);
}

TEST(LocalControls, AJudgeThatBlamesAnotherRowFirstIsVacuous) {
  for (const auto& [position, layer] : {std::pair(-1, 0), std::pair(0, -1)}) {
    const Outcome outcome = judge_with_controls([&](const ControlSpec& spec) {
      return std::vector{finding(spec.stage, spec.layer + layer, spec.position + position),
                         finding(spec.stage, spec.layer, spec.position)};
    });
    EXPECT_EQ(outcome.judgement.reason, Reason::control_not_found) << outcome.judgement.detail;
  }
}

TEST(LocalJudgement, AnAgreementWithinBoundsIsSaidOverPromptsThatAreBitEqual) {
  PromptPair equal = toy_pair();
  equal.a.prompt_id = equal.b.prompt_id = "equal";
  equal.b.plan = "float64";
  const Outcome outcome =
      judge({equal, routes_differ()}, {}, RunInfo{}, {}, difference, [](const std::string&) { return within(); });
  EXPECT_EQ(outcome.judgement.reason, Reason::within_bounds) << outcome.judgement.detail;
}

}  // namespace
}  // namespace greta::isolate
