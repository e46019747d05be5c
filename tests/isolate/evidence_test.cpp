// What the operands of a mismatch say: which row each arm's kernel read, and which was due.
#include "isolate/evidence.h"

#include <gtest/gtest.h>

namespace greta::isolate {
namespace {

StageRecord ffn_norm_at_2(Stage producer, int layer, int position) {
  StageRecord record;
  record.stage = Stage::ffn_norm;
  record.layer = 1;
  record.position = 2;
  OperandRecord x;
  x.kind = OperandKind::activation;
  x.argument = "x";
  x.producer_stage = producer;
  x.producer_layer = layer;
  x.producer_position = position;
  OperandRecord eps;
  eps.kind = OperandKind::scalar;
  eps.argument = "eps";
  eps.value = 1e-5;
  record.operands = {x, eps};
  return record;
}

TEST(Evidence, NamesTheRowEachArmReadAndTheRowThatWasDue) {
  const auto evidence = operand_evidence(ffn_norm_at_2(Stage::x_after_attn, 1, 2), ffn_norm_at_2(Stage::x_after_attn, 1, 0));
  ASSERT_EQ(evidence.size(), 2u);
  EXPECT_EQ(evidence[0].read_a, (StageRow{Stage::x_after_attn, 1, 2}));
  EXPECT_EQ(evidence[0].read_b, (StageRow{Stage::x_after_attn, 1, 0}));
  EXPECT_EQ(evidence[0].due, (StageRow{Stage::x_after_attn, 1, 2}));
  EXPECT_FALSE(evidence[1].due) << "a scalar has no row";
}

TEST(Evidence, TheRowDueIsTheMismatchsOwnWhicheverArmReadAnother) {
  const auto evidence = operand_evidence(ffn_norm_at_2(Stage::x_after_attn, 1, 0), ffn_norm_at_2(Stage::x_after_attn, 1, 2));
  EXPECT_EQ(evidence[0].due, (StageRow{Stage::x_after_attn, 1, 2}));
  EXPECT_EQ(evidence[0].read_b, evidence[0].due);
  EXPECT_NE(evidence[0].read_a, evidence[0].due);
}

TEST(Evidence, StageAndLayerDueAreTheReferences) {
  const auto evidence = operand_evidence(ffn_norm_at_2(Stage::x_after_attn, 1, 2), ffn_norm_at_2(Stage::x_in, 1, 2));
  EXPECT_EQ(evidence[0].due, (StageRow{Stage::x_after_attn, 1, 2}));
  EXPECT_EQ(evidence[0].read_b, (StageRow{Stage::x_in, 1, 2}));
}

}  // namespace
}  // namespace greta::isolate
