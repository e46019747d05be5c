// Captures of two models, two vocabularies, other weights or rows without operands: named, and nobody's op is blamed.
#include "isolate/same_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/isolate/toy.h"

namespace greta::isolate {
namespace {

using test::toy_pair;
using test::ToyOptions;
using ::testing::HasSubstr;

/// A pair whose q of layer 0 differs, and whose records say which weight it read.
PromptPair with_weight(const OperandRecord& of_a, const OperandRecord& of_b) {
  PromptPair pair = toy_pair({}, {{{2, 0, Stage::q}, 0.5}});
  for (Capture* capture : {&pair.a, &pair.b})
    for (StageRecord& record : capture->records)
      if (record.stage == Stage::q && record.layer == 0) record.operands.push_back(capture == &pair.a ? of_a : of_b);
  return pair;
}

OperandRecord weight(DType dtype, std::uint64_t hash, const std::string& name = "blk.0.attn_q.weight") {
  OperandRecord out;
  out.kind = OperandKind::weight;
  out.argument = "weight";
  out.name = name;
  out.dtype = dtype;
  out.hash = Hash128{hash, 1};
  return out;
}

Outcome judged(const PromptPair& pair) {
  RunInfo run;
  run.source = Source::compare;
  return judge({pair}, {}, run);
}

TEST(SameModel, OtherWeightsAreNobodysFault) {
  for (const auto& [other, words] : {std::pair(weight(DType::q4_k, 2), "is f32 in A, q4_k in B"),
                                     std::pair(weight(DType::f32, 2), "has other bytes in B")}) {
    const Outcome outcome = judged(with_weight(weight(DType::f32, 1), other));
    EXPECT_EQ(outcome.judgement.reason, Reason::weights_differ) << outcome.judgement.detail;
    EXPECT_THAT(outcome.judgement.detail, HasSubstr(words));
    EXPECT_THAT(outcome.judgement.detail, HasSubstr("1 of 1 weights"));
    EXPECT_FALSE(outcome.prompts.front().first);
    EXPECT_EQ(outcome.cause.state, CauseState::none);
  }
}

TEST(SameModel, EqualWeightsAndOtherTensorsAreNoExcuse) {
  EXPECT_EQ(judged(with_weight(weight(DType::f32, 1), weight(DType::f32, 1))).verdict(), Verdict::diverged);
  // A kernel that was handed another tensor is a fault, not another model.
  const PromptPair taken = with_weight(weight(DType::f32, 1), weight(DType::f32, 2, "blk.1.attn_q.weight"));
  EXPECT_EQ(judged(taken).verdict(), Verdict::diverged);
  // Nor is a weight that one arm altered, where both say that they had one file.
  PromptPair altered = with_weight(weight(DType::f32, 1), weight(DType::f32, 2));
  altered.a.model_hash = altered.b.model_hash = "0123456789abcdef";
  EXPECT_EQ(judged(altered).verdict(), Verdict::diverged);
}

TEST(SameModel, FilesTellWhereNoWeightWasRecorded) {
  PromptPair pair = toy_pair({}, {{{2, 0, Stage::q}, 0.5}});
  pair.a.model_hash = "0123456789abcdef";
  EXPECT_EQ(judged(pair).verdict(), Verdict::diverged);  // B's is unknown
  pair.b.model_hash = "0123456789abcdee";
  EXPECT_EQ(judged(pair).judgement.reason, Reason::weights_differ);
}

TEST(SameModel, OtherVocabulariesLayersAndWidthsAreMisaligned) {
  PromptPair vocabulary = toy_pair();
  vocabulary.a.tokenizer_hash = "0123456789abcdef";
  EXPECT_EQ(judged(vocabulary).judgement.reason, Reason::bit_equal);
  vocabulary.b.tokenizer_hash = "0123456789abcdee";
  EXPECT_EQ(judged(vocabulary).judgement.reason, Reason::misaligned);

  PromptPair layers = toy_pair();
  layers.b.n_layers = 4;
  EXPECT_THAT(judged(layers).judgement.detail, HasSubstr("3 layers in A, 4 in B"));
  EXPECT_EQ(judged(layers).judgement.reason, Reason::misaligned);

  PromptPair width = toy_pair();
  for (StageRecord& record : width.b.records) record.print.count = 7;
  EXPECT_THAT(judged(width).judgement.detail, HasSubstr("x_in layer 0 position 0 has 8 elements in A, 7 in B"));
  EXPECT_EQ(judged(width).judgement.reason, Reason::misaligned);
}

TEST(SameModel, EqualRowsWithoutTheirOperandsAreNoAgreement) {
  const auto pair_with = [](bool in_a, bool in_b) {
    PromptPair pair = toy_pair();
    for (Capture* capture : {&pair.a, &pair.b})
      for (StageRecord& record : capture->records) {
        record.operands.clear();
        if (capture == &pair.a ? in_a : in_b) record.operands.push_back(weight(DType::f32, 1));
      }
    return pair;
  };
  EXPECT_EQ(judged(pair_with(true, true)).judgement.reason, Reason::bit_equal);
  EXPECT_THAT(judged(pair_with(true, false)).judgement.detail, HasSubstr("lacks its operands in B"));
  EXPECT_THAT(judged(pair_with(false, true)).judgement.detail, HasSubstr("lacks its operands in A"));
  EXPECT_EQ(judged(pair_with(false, false)).judgement.reason, Reason::missing_operands);
  PromptPair one = pair_with(true, true);
  one.b.records.front().operands.front().argument = "bias";
  EXPECT_EQ(judged(one).judgement.reason, Reason::missing_operands);
  one.b.records.front().route = "float64";  // another route may be given other things
  EXPECT_EQ(judged(one).judgement.reason, Reason::bit_equal);
}

TEST(SameModel, RowsOfTwoTypesAreNotEqual) {
  PromptPair pair = toy_pair();
  for (Capture* capture : {&pair.a, &pair.b})
    for (StageRecord& record : capture->records) record.dtype = DType::f32;
  EXPECT_EQ(judged(pair).judgement.reason, Reason::bit_equal);
  for (StageRecord& record : pair.b.records) record.dtype = DType::f16;
  const Outcome outcome = judged(pair);
  EXPECT_EQ(outcome.judgement.reason, Reason::below_threshold);
  EXPECT_THAT(outcome.judgement.detail, HasSubstr("f32 in A, f16 in B"));
}

}  // namespace
}  // namespace greta::isolate
