// Every verdict by its reason, on captures whose truth is known.
#include "isolate/judge.h"

#include <gtest/gtest.h>

#include <limits>
#include <set>

#include "tests/isolate/toy.h"

namespace greta::isolate {
namespace {

using test::Toy;
using test::toy_controls;
using test::toy_pair;
using test::ToyFaults;
using test::ToyOptions;

Outcome judge_one(const PromptPair& pair, const ControlRunner& runner = {}, const ExperimentSpec& spec = {}) {
  return judge({pair}, spec, RunInfo{}, runner);
}

StageRecord& record_at(Capture& capture, int position, int layer, Stage stage) {
  for (StageRecord& record : capture.records)
    if (record.position == position && record.layer == layer && record.stage == stage) return record;
  throw std::logic_error("no such record");
}

void set_row(StageRecord& record, const std::vector<double>& row) { record.print = Toy::print(row, true); }

TEST(Judge, EqualArmsAgreeAndEveryControlIsFound) {
  const ToyOptions options;
  const Outcome outcome = judge_one(toy_pair(options), toy_controls(options));
  EXPECT_EQ(outcome.verdict(), Verdict::agree) << outcome.judgement.detail;
  EXPECT_EQ(outcome.judgement.reason, Reason::bit_equal);
  EXPECT_EQ(outcome.exit_code(), 0);
  EXPECT_EQ(outcome.keys.compared, 5 * (3 * 21 + 3));
  EXPECT_EQ(outcome.keys.expected, outcome.keys.compared);
  ASSERT_EQ(outcome.controls.size(), 24u);  // all stages that the toy has
  for (const ControlResult& control : outcome.controls) {
    EXPECT_TRUE(control.found) << name(control.spec.stage) << " found at " << control.where;
    EXPECT_EQ(control.spec.position, 4);
    EXPECT_EQ(control.spec.ulps, 1);
    EXPECT_EQ(control.met, "a");
    EXPECT_FALSE(control.in_memory);
  }
  EXPECT_EQ(outcome.prompts.front().table.first_mismatch_stage, "NONE");
  EXPECT_EQ(outcome.prompts.front().table.mae_of(Stage::ffn_norm), 0.0);
}

TEST(Judge, ControlsAreAlteredInMemoryWithoutARunner) {
  const Outcome outcome = judge_one(toy_pair());
  EXPECT_EQ(outcome.verdict(), Verdict::agree);
  ASSERT_EQ(outcome.controls.size(), 24u);
  for (const ControlResult& control : outcome.controls) EXPECT_TRUE(control.found && control.in_memory);
}

TEST(Judge, AFaultIsFoundAtItsPlaceAndTheRestInherits) {
  const ToyOptions options;
  const ToyFaults faults = {{{4, 1, Stage::ffn_norm}, 0.5}};
  const Outcome outcome = judge_one(toy_pair(options, faults), toy_controls(options, faults));
  EXPECT_EQ(outcome.verdict(), Verdict::diverged);
  EXPECT_EQ(outcome.exit_code(), 1);
  const PromptOutcome& prompt = outcome.prompts.front();
  ASSERT_TRUE(prompt.first);
  EXPECT_EQ(prompt.first->stage, Stage::ffn_norm);
  EXPECT_EQ(prompt.first->layer, 1);
  EXPECT_EQ(prompt.first->position, 4);
  EXPECT_EQ(prompt.first->step, 1);
  EXPECT_NEAR(*prompt.first->difference.mae, 0.5 / 8, 1e-15);
  EXPECT_EQ(prompt.minimal.size(), 1u);
  EXPECT_EQ(prompt.inherited, 6 + 21 + 3);  // the rest of layer 1, layer 2, and the head
  EXPECT_EQ(prompt.table.first_mismatch_layer, 1);
  EXPECT_EQ(prompt.table.layer, 1);
  EXPECT_NEAR(*prompt.table.mae_of(Stage::ffn_norm), 0.5 / 8, 1e-15);
  EXPECT_EQ(prompt.table.mae_of(Stage::x_after_attn), 0.0);
  for (const ControlResult& control : outcome.controls) {
    EXPECT_TRUE(control.found) << name(control.spec.stage) << " found at " << control.where;
    EXPECT_EQ(control.met, "b");
  }
}

TEST(Judge, TwoIndependentFaultsAreBothMinimal) {
  ToyOptions options;
  options.n = 6;
  // Position 2 layer 2 cannot reach position 1 layer... and position 4 layer 0 cannot reach position 2.
  const Outcome outcome = judge_one(toy_pair(options, {{{2, 2, Stage::q}, 0.25}, {{4, 0, Stage::mlp_out}, 0.25}}));
  const PromptOutcome& prompt = outcome.prompts.front();
  ASSERT_EQ(prompt.minimal.size(), 2u);
  EXPECT_EQ(prompt.minimal[0].stage, Stage::mlp_out);  // both in step 0: the lower layer is first
  EXPECT_EQ(prompt.minimal[0].position, 4);
  EXPECT_EQ(prompt.minimal[1].stage, Stage::q);
  EXPECT_EQ(prompt.minimal[1].position, 2);
  EXPECT_EQ(prompt.first->stage, Stage::mlp_out);
}

TEST(Judge, TheStepComesBeforeTheLayer) {
  ToyOptions options;
  options.n = 4;
  options.span = 2;
  const Outcome outcome = judge_one(toy_pair(options, {{{1, 2, Stage::ffn_up}, 0.25}, {{4, 0, Stage::attn_norm}, 0.25}}));
  const PromptOutcome& prompt = outcome.prompts.front();
  EXPECT_EQ(prompt.first->stage, Stage::ffn_up);  // step 0, layer 2 before step 2, layer 0
  ASSERT_EQ(prompt.minimal.size(), 2u);
  EXPECT_EQ(prompt.minimal[1].stage, Stage::attn_norm);
}

TEST(Judge, APerturbationInThePrefixOfArmBIsFound) {
  const ToyOptions options;
  const Outcome outcome = judge_one(toy_pair(options, {{{1, 0, Stage::k_cache}, 0.5}}));
  EXPECT_EQ(outcome.verdict(), Verdict::diverged);
  EXPECT_EQ(outcome.prompts.front().first->stage, Stage::k_cache);
  EXPECT_EQ(outcome.prompts.front().first->position, 1);
}

TEST(Judge, ASlotRereadByALaterStepMeetsTheRecordOfItsKey) {
  PromptPair pair = toy_pair();
  StageRecord reread = record_at(pair.b, 2, 1, Stage::v_cache);
  reread.reread = true;
  reread.step = 1;
  reread.phase = Phase::decode;
  std::vector<double> row = reread.print.sample;
  row[3] += 0.5;
  set_row(reread, row);
  pair.b.records.push_back(reread);
  const Outcome outcome = judge_one(pair);
  EXPECT_EQ(outcome.verdict(), Verdict::diverged);
  const Mismatch& first = *outcome.prompts.front().first;
  EXPECT_TRUE(first.reread);
  EXPECT_EQ(first.stage, Stage::v_cache);
  EXPECT_EQ(first.position, 2);
  EXPECT_EQ(first.step, 1);
  EXPECT_EQ(outcome.keys.compared, outcome.keys.expected);
}

TEST(Judge, ControlsMeetASlotAsTheirStepFoundIt) {
  // A slot of the prefix that decode0 found changed: the control's run finds it changed too, and that is no finding of its own.
  const ToyOptions options;
  PromptPair pair = toy_pair(options);
  StageRecord reread = record_at(pair.b, 2, 0, Stage::v_cache);
  reread.reread = true;
  reread.step = 1;
  reread.phase = Phase::decode;
  std::vector<double> row = reread.print.sample;
  row[3] += 0.5;
  set_row(reread, row);
  pair.b.records.push_back(reread);
  const auto runner = [inner = toy_controls(options), reread](const ControlSpec& spec) {
    Capture step = inner(spec);
    step.records.push_back(reread);
    return step;
  };
  const Outcome outcome = judge_one(pair, runner);
  EXPECT_EQ(outcome.verdict(), Verdict::diverged);
  EXPECT_EQ(outcome.controls_found(), 24);
}

TEST(Judge, NoControlIsPlantedOutsideTheDecodeSteps) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Outcome outcome = judge_one(toy_pair({}, {{{4, 0, Stage::attn_norm}, nan}}));
  EXPECT_EQ(outcome.judgement.reason, Reason::nan_in_b);
  for (const ControlResult& control : outcome.controls) EXPECT_EQ(control.spec.position, 4);
}

TEST(Judge, OneUlpIsBelowTheThresholdsAndInconclusive) {
  PromptPair pair = toy_pair();
  StageRecord& record = record_at(pair.b, 4, 2, Stage::x_out);
  std::vector<double> row = record.print.sample;
  row[5] = std::nextafter(row[5], 10.0);
  set_row(record, row);
  const Outcome outcome = judge_one(pair);
  EXPECT_EQ(outcome.judgement.reason, Reason::below_threshold);
  EXPECT_EQ(outcome.exit_code(), 2);
  ASSERT_TRUE(outcome.prompts.front().first);
  EXPECT_EQ(outcome.prompts.front().first->stage, Stage::x_out);
  EXPECT_EQ(outcome.keys.drifted, 1);
}

TEST(Judge, WhereBitEqualityIsClaimedATinyFirstMismatchIsNotHiddenByALaterLargeOne) {
  ToyOptions options;
  const ToyFaults faults = {{{4, 0, Stage::v}, 1e-9}, {{4, 2, Stage::mlp_out}, 0.5}};
  const Outcome ours = judge_one(toy_pair(options, faults));
  EXPECT_EQ(ours.verdict(), Verdict::diverged);
  EXPECT_EQ(ours.prompts.front().first->stage, Stage::v);
  EXPECT_FALSE(ours.prompts.front().first->above_threshold);
  options.foreign = true;
  const Outcome foreign = judge_one(toy_pair(options, faults));
  EXPECT_EQ(foreign.verdict(), Verdict::diverged);
  EXPECT_EQ(foreign.prompts.front().first->stage, Stage::mlp_out);
  ASSERT_TRUE(foreign.prompts.front().drift);
  EXPECT_EQ(foreign.prompts.front().drift->stage, Stage::v);
}

TEST(Judge, AComparatorThatAlwaysSaysEqualCannotPass) {
  const ToyOptions options;
  const auto always_equal = [](const StageRecord&, const StageRecord&) {
    Difference d;
    d.bit_equal = true;
    return d;
  };
  for (const bool with_runner : {true, false}) {
    const Outcome outcome = judge({toy_pair(options)}, ExperimentSpec{}, RunInfo{},
                                  with_runner ? toy_controls(options) : ControlRunner{}, always_equal);
    EXPECT_EQ(outcome.judgement.reason, Reason::control_not_found);
    EXPECT_EQ(outcome.verdict(), Verdict::vacuous);
    EXPECT_EQ(outcome.exit_code(), 2);
    EXPECT_EQ(outcome.controls_found(), 0);
  }
}

TEST(Judge, AComparatorThatAlwaysSaysDifferentFindsControlsAtTheWrongPlace) {
  const auto always_different = [](const StageRecord& a, const StageRecord& b) {
    Difference d = difference(a, b);
    d.bit_equal = false;
    return d;
  };
  const Outcome outcome = judge({toy_pair()}, ExperimentSpec{}, RunInfo{}, {}, always_different);
  EXPECT_NE(outcome.verdict(), Verdict::agree);
  EXPECT_LT(outcome.controls_found(), 2);
}

TEST(Judge, APerturbationThatDoesNothingIsAControlNotFound) {
  const ToyOptions options;
  const auto no_op = [runner = toy_controls(options)](const ControlSpec& spec) {
    ControlSpec harmless = spec;
    harmless.ulps.reset();
    harmless.delta = 0;
    return runner(harmless);
  };
  const Outcome outcome = judge_one(toy_pair(options), no_op);
  EXPECT_EQ(outcome.judgement.reason, Reason::control_not_found);
  EXPECT_EQ(outcome.controls.front().where, "nothing");
}

TEST(Judge, APerturbationAtTheWrongStageIsAControlNotFound) {
  const ToyOptions options;
  const auto elsewhere = [runner = toy_controls(options)](const ControlSpec& spec) {
    ControlSpec moved = spec;
    if (spec.stage == Stage::wo_out) moved.stage = Stage::attn_out;
    return runner(moved);
  };
  const Outcome outcome = judge_one(toy_pair(options), elsewhere);
  EXPECT_EQ(outcome.judgement.reason, Reason::control_not_found);
  EXPECT_EQ(outcome.controls_found(), 23);
}

TEST(Judge, ArmARecordedTwiceIsVacuous) {
  PromptPair pair = toy_pair();
  pair.b = pair.a;
  EXPECT_EQ(judge_one(pair).judgement.reason, Reason::arm_not_as_declared);
  pair.declared_schedule_a.clear();
  pair.declared_schedule_b.clear();
  RunInfo run;
  run.source = Source::compare;
  EXPECT_EQ(judge({pair}, {}, run).judgement.reason, Reason::arms_do_not_differ);
  run.source = Source::analyze;
  EXPECT_EQ(judge({pair}, {}, run).judgement.reason, Reason::decode_read_no_history);
}

TEST(Judge, ArmBScheduledAsAPrefillIsVacuous) {
  PromptPair pair = toy_pair();
  const auto declared = pair.declared_schedule_b;
  ToyOptions options;
  pair.b = Toy(options, {}).run();  // one call of 5 rows
  pair.b.arm = 'b';
  pair.b.threads = 2;
  EXPECT_EQ(judge_one(pair).judgement.reason, Reason::arm_not_as_declared);
  EXPECT_EQ(judge_one(pair).verdict(), Verdict::vacuous);
}

TEST(Judge, ADecodeThatReadNoHistoryIsVacuous) {
  PromptPair pair = toy_pair();
  pair.b.kv_slots_read_from_earlier_steps = 3;  // of 4
  EXPECT_EQ(judge_one(pair).judgement.reason, Reason::decode_read_no_history);
}

TEST(Judge, AnArmThatRanAnotherPlanThanAskedIsVacuous) {
  RunInfo run;
  run.b.plan = "free";
  EXPECT_EQ(judge({toy_pair()}, {}, run).judgement.reason, Reason::arm_not_as_declared);
  run.b = {};
  run.a.routes = {{"matmul", "blocked"}};
  EXPECT_EQ(judge({toy_pair()}, {}, run).judgement.reason, Reason::arm_not_as_declared);
}

TEST(Judge, AnAlteredTokenIdIsMisalignedAndNeverJudged) {
  PromptPair pair = toy_pair({}, {{{4, 1, Stage::ffn_norm}, 0.5}});
  pair.b.tokens[4] = 99;
  EXPECT_EQ(judge_one(pair).judgement.reason, Reason::misaligned);
  pair.b.tokens[4] = pair.a.tokens[4];
  record_at(pair.b, 4, 0, Stage::q).token_id = 99;
  const Outcome outcome = judge_one(pair);
  EXPECT_EQ(outcome.judgement.reason, Reason::misaligned);
  EXPECT_EQ(outcome.verdict(), Verdict::inconclusive);
  EXPECT_EQ(outcome.exit_code(), 2);
  EXPECT_FALSE(outcome.prompts.front().first);
  EXPECT_EQ(outcome.prompts.front().table.first_mismatch_stage, "INCONCLUSIVE");
}

TEST(Judge, AnAlteredInputIsMisalignedInAForeignCaptureAndDivergedInOurs) {
  ToyOptions options;
  const ToyFaults faults = {{{4, 0, Stage::x_in}, 0.01}};
  const Outcome ours = judge_one(toy_pair(options, faults));
  EXPECT_EQ(ours.verdict(), Verdict::diverged);
  EXPECT_EQ(ours.prompts.front().first->stage, Stage::x_in);
  options.foreign = true;
  EXPECT_EQ(judge_one(toy_pair(options, faults)).judgement.reason, Reason::misaligned);
}

TEST(Judge, AForeignCaptureWithoutInputIsMisaligned) {
  ToyOptions options;
  options.foreign = true;
  PromptPair pair = toy_pair(options);
  std::erase_if(pair.b.records, [](const StageRecord& r) { return r.stage == Stage::x_in && r.layer == 0; });
  EXPECT_EQ(judge_one(pair).judgement.reason, Reason::misaligned);
}

TEST(Judge, NoCommonStageIsVacuous) {
  PromptPair pair = toy_pair();
  std::erase_if(pair.a.records, [](const StageRecord& r) { return r.stage >= Stage::attn_out; });
  std::erase_if(pair.b.records, [](const StageRecord& r) { return r.stage < Stage::attn_out; });
  pair.a.logits.clear();
  const Outcome outcome = judge_one(pair);
  EXPECT_EQ(outcome.judgement.reason, Reason::zero_common_keys);
  EXPECT_EQ(outcome.verdict(), Verdict::vacuous);
}

TEST(Judge, MissingStagesAreInconclusiveAndNamed) {
  PromptPair pair = toy_pair();
  std::erase_if(pair.b.records,
                [](const StageRecord& r) { return r.stage == Stage::ffn_act && r.layer == 1 && r.position == 3; });
  const Outcome outcome = judge_one(pair);
  EXPECT_EQ(outcome.judgement.reason, Reason::missing_stages);
  ASSERT_EQ(outcome.prompts.front().missing.size(), 1u);
  EXPECT_EQ(outcome.prompts.front().missing.front(), "ffn_act layer 1 position 3 in B");
  EXPECT_EQ(outcome.keys.compared, outcome.keys.expected - 1);
}

TEST(Judge, APositionThatNobodyRecordedIsMissing) {
  PromptPair pair = toy_pair();
  for (Capture* capture : {&pair.a, &pair.b})
    std::erase_if(capture->records, [](const StageRecord& r) { return r.position == 2; });
  EXPECT_EQ(judge_one(pair).judgement.reason, Reason::missing_stages);
}

TEST(Judge, AStageThatARouteHidesIsListedAndNotMissing) {
  PromptPair pair = toy_pair();
  for (StageRecord& record : pair.b.records)
    if (record.stage == Stage::attn_scores) {
      record.exposure = Exposure::not_exposed;
      record.print = {};
    }
  const Outcome outcome = judge_one(pair);
  EXPECT_EQ(outcome.verdict(), Verdict::agree) << outcome.judgement.detail;
  ASSERT_EQ(outcome.prompts.front().not_exposed.size(), 1u);
  EXPECT_EQ(outcome.prompts.front().not_exposed.front(), "attn_scores in B (route reference)");
}

TEST(Judge, NanInBOnlyIsDiverged) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const Outcome outcome = judge_one(toy_pair({}, {{{4, 1, Stage::mlp_out}, nan}}));
  EXPECT_EQ(outcome.judgement.reason, Reason::nan_in_b);
  EXPECT_EQ(outcome.verdict(), Verdict::diverged);
  EXPECT_EQ(outcome.prompts.front().first->stage, Stage::mlp_out);
}

TEST(Judge, InfinityInBOnlyIsDiverged) {
  PromptPair pair = toy_pair();
  StageRecord& record = record_at(pair.b, 4, 1, Stage::mlp_out);
  std::vector<double> row = record.print.sample;
  row[2] = HUGE_VAL;
  set_row(record, row);
  EXPECT_EQ(judge_one(pair).judgement.reason, Reason::nan_in_b);
}

TEST(Judge, NanInAOnlyIsInconclusive) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  PromptPair pair = toy_pair();
  std::swap(pair.a.records, pair.b.records);
  for (StageRecord& record : pair.b.records)
    if (record.position == 4) record.phase = Phase::decode;
  StageRecord& record = record_at(pair.a, 4, 1, Stage::mlp_out);
  std::vector<double> row = record.print.sample;
  row[0] = nan;
  set_row(record, row);
  const Outcome outcome = judge_one(pair);
  EXPECT_EQ(outcome.judgement.reason, Reason::nan_in_a);
  EXPECT_EQ(outcome.verdict(), Verdict::inconclusive);
}

TEST(Judge, NanOnBothSidesIsVacuousEvenWhereHashesAreEqual) {
  PromptPair pair = toy_pair();
  for (Capture* capture : {&pair.a, &pair.b}) {
    StageRecord& record = record_at(*capture, 3, 1, Stage::q);
    std::vector<double> row = record.print.sample;
    row[0] = std::numeric_limits<double>::quiet_NaN();
    set_row(record, row);
  }
  const Outcome outcome = judge_one(pair);
  EXPECT_EQ(outcome.judgement.reason, Reason::nan_on_both_sides);
  EXPECT_EQ(outcome.verdict(), Verdict::vacuous);
}

TEST(Judge, AllZeroOnBothSidesIsVacuous) {
  PromptPair pair = toy_pair();
  for (Capture* capture : {&pair.a, &pair.b}) set_row(record_at(*capture, 3, 1, Stage::q), std::vector<double>(8, 0.0));
  EXPECT_EQ(judge_one(pair).judgement.reason, Reason::all_zero);
}

TEST(Judge, OneTokenIsInconclusiveAndAnotherPromptStillJudged) {
  ToyOptions one;
  one.n = 1;
  one.prompt = "short";
  PromptPair shortest = toy_pair(one);
  const Outcome alone = judge_one(shortest);
  EXPECT_EQ(alone.judgement.reason, Reason::one_token_prompt);
  EXPECT_EQ(alone.exit_code(), 2);
  const Outcome both = judge({shortest, toy_pair({}, {{{4, 0, Stage::q}, 0.5}})}, {}, {});
  EXPECT_EQ(both.verdict(), Verdict::diverged);
}

TEST(Judge, AFaultWithoutEffectIsVacuousForItsPrompt) {
  PromptPair pair = toy_pair();
  pair.b.fault_planted = true;
  EXPECT_EQ(judge_one(pair).judgement.reason, Reason::fault_without_effect);
  pair.b.fault_effects = 3;
  EXPECT_EQ(judge_one(pair).verdict(), Verdict::agree);
}

TEST(Judge, PrecedenceOverPrompts) {
  ToyOptions other;
  other.prompt = "other";
  PromptPair misaligned = toy_pair(other);
  misaligned.b.tokens[0] = 99;
  other.prompt = "zero";
  PromptPair vacuous = toy_pair(other);
  vacuous.b.kv_slots_read_from_earlier_steps = 0;
  other.prompt = "bad";
  const PromptPair diverged = toy_pair(other, {{{4, 0, Stage::q}, 0.5}});
  const PromptPair good = toy_pair();
  EXPECT_EQ(judge({good, misaligned}, {}, {}).verdict(), Verdict::inconclusive);
  EXPECT_EQ(judge({good, misaligned, vacuous}, {}, {}).verdict(), Verdict::vacuous);
  EXPECT_EQ(judge({diverged, good, misaligned, vacuous}, {}, {}).verdict(), Verdict::diverged);
  EXPECT_EQ(judge({}, {}, {}).judgement.reason, Reason::no_prompts);
}

TEST(Judge, LinesThatCouldNotBeReadForbidAnAgreement) {
  RunInfo run;
  run.unreadable_lines = 2;
  EXPECT_EQ(judge({toy_pair()}, {}, run).judgement.reason, Reason::unreadable_lines);
}

TEST(Judge, AsDesignedIsMeasuredAndNeverJudged) {
  // The first generated token stands at position 5 in arm B and nowhere in arm A.
  ToyOptions options;
  PromptPair pair = toy_pair(options);
  options.n = 6;
  options.arm = 'b';
  pair.b = Toy(options, {}).run();
  pair.b.n_prompt = 5;
  pair.a.exp = pair.b.exp = "E0";
  pair.declared_schedule_b = pair.b.schedule;
  ExperimentSpec spec;
  spec.exp = ExpMode::as_designed;
  RunInfo run;
  run.next_base = "greta isolate --exp E0 model.gguf";
  const Outcome outcome = judge({pair}, spec, run);
  EXPECT_EQ(outcome.judgement.reason, Reason::as_designed);
  EXPECT_EQ(outcome.next_command, "greta isolate model.gguf --exp E1");
  EXPECT_EQ(outcome.keys.compared, 3 * 21 + 3);
  EXPECT_EQ(outcome.keys.expected, outcome.keys.compared);
  EXPECT_EQ(outcome.verdict(), Verdict::expected_drift);
  EXPECT_EQ(outcome.exit_code(), 0);
  EXPECT_TRUE(outcome.controls.empty());
  EXPECT_EQ(outcome.prompts.front().table.first_mismatch_stage, "x_in");
  EXPECT_GT(*outcome.prompts.front().table.mae_of(Stage::x_in), 1e-3);
}

TEST(Judge, ControlsSpreadOverPromptsAreReproducedByTheSeed) {
  ToyOptions second;
  second.prompt = "second";
  const std::vector<PromptPair> pairs = {toy_pair(), toy_pair(second)};
  const auto places = [&](std::uint64_t seed) {
    ExperimentSpec spec;
    spec.seed = seed;
    std::vector<std::string> all;
    for (const ControlResult& control : judge(pairs, spec, {}).controls)
      all.push_back(control.spec.prompt_id + " " + std::string(name(control.spec.stage)) + " " +
                    std::to_string(control.spec.layer));
    return all;
  };
  EXPECT_EQ(places(1), places(1));
  EXPECT_NE(places(1), places(2));
  std::set<std::string> prompts;
  for (const std::string& place : places(1)) prompts.insert(place.substr(0, place.find(' ')));
  EXPECT_EQ(prompts.size(), 2u);
}

TEST(Judge, StagesThatWereNotChosenAreNeitherComparedNorMissing) {
  ExperimentSpec spec;
  spec.stages = {Stage::ffn_norm, Stage::logits};
  spec.layers = LayerSelection::parse("-1");
  const Outcome outcome = judge_one(toy_pair({}, {{{4, 0, Stage::q}, 0.5}}), {}, spec);
  EXPECT_EQ(outcome.keys.expected, 5 * 2);
  EXPECT_EQ(outcome.prompts.front().first->stage, Stage::ffn_norm);
  EXPECT_EQ(outcome.prompts.front().first->layer, 2);
}

}  // namespace
}  // namespace greta::isolate
