// Several faults at once, faults that a target cannot have, and what the records show of a fault.
#include "fault/faulty_ops.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/fault/traced.h"

namespace greta {
namespace {

using test::traced_run;
using ::testing::HasSubstr;

const Model& tiny() {
  static const auto model = [] {
    SynthSpec spec = synth_shape("tiny");
    spec.n_layers = 3;
    spec.seed = 12;
    return test::synthetic_model(spec);
  }();
  return *model;
}

std::string refusal(const Model& model, const std::string& fault) {
  try {
    check_fault(parse_fault(fault), {model, 8});
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

const StageRecord* find(const Capture& capture, Stage stage, int layer, int position) {
  for (const StageRecord& record : capture.records)
    if (record.stage == stage && record.layer == layer && record.position == position && !record.reread) return &record;
  return nullptr;
}

const OperandRecord* operand(const Capture& capture, Stage stage, int layer, int position, std::string_view argument) {
  const StageRecord* record = find(capture, stage, layer, position);
  if (record == nullptr) return nullptr;
  for (const OperandRecord& one : record->operands)
    if (one.argument == argument) return &one;
  return nullptr;
}

/// All records of both runs are equal.
bool same(const Capture& a, const Capture& b) { return !test::first_difference(a, b).has_value(); }

TEST(FaultyOps, TwoFaultsOfOperandsAtOnePlaceAddUp) {
  const auto both = traced_run(tiny(), {"rope-position@decode:layer=1:delta=2", "rope-theta@decode:layer=1:theta=500"});
  const auto position = traced_run(tiny(), {"rope-position@decode:layer=1:delta=2"});
  const auto theta = traced_run(tiny(), {"rope-theta@decode:layer=1:theta=500"});
  const auto reversed = traced_run(tiny(), {"rope-theta@decode:layer=1:theta=500", "rope-position@decode:layer=1:delta=2"});
  EXPECT_FALSE(same(both.capture, position.capture));
  EXPECT_FALSE(same(both.capture, theta.capture));
  EXPECT_TRUE(same(both.capture, reversed.capture));
  // Two steps of one position are one of two.
  EXPECT_TRUE(same(traced_run(tiny(), {"rope-position@decode", "rope-position@decode"}).capture,
                   traced_run(tiny(), {"rope-position@decode:delta=2"}).capture));
}

TEST(FaultyOps, AFaultOfAnOperandAndOneOfTheKernelAtOnePlaceAddUp) {
  const auto both = traced_run(
      tiny(), {"layernorm-for-rmsnorm@decode:layer=0:stage=ffn_norm", "rmsnorm-epsilon@decode:layer=0:stage=ffn_norm:eps=0.5",
               "perturb@decode:layer=0:stage=ffn_norm:index=3"});
  const auto norm = traced_run(tiny(), {"layernorm-for-rmsnorm@decode:layer=0:stage=ffn_norm"});
  const auto without_last = traced_run(
      tiny(), {"layernorm-for-rmsnorm@decode:layer=0:stage=ffn_norm", "rmsnorm-epsilon@decode:layer=0:stage=ffn_norm:eps=0.5"});
  EXPECT_FALSE(same(both.capture, norm.capture));
  EXPECT_FALSE(same(both.capture, without_last.capture));
}

/// Kinds that act after the op, by rows of earlier calls, beside a fault that keeps none.
TEST(FaultyOps, AFaultOfEarlierRowsActsBesideOneWithoutAny) {
  for (const auto& [kind, stage] : {std::pair{"mask-off-by-one@decode:layer=1:stage=attn_probs", "attn_probs"},
                                    {"merge-empty-chunk@decode:layer=1:splits=64", "attn_out"},
                                    {"stale-input@decode:layer=1:stage=ffn_norm:from=x_after_attn", "ffn_norm"}}) {
    const std::string perturb = std::string("perturb@decode:layer=1:index=3:add=0.5:stage=") + stage;
    const auto both = traced_run(tiny(), {kind, perturb});
    EXPECT_FALSE(same(both.capture, traced_run(tiny(), {perturb}).capture)) << kind;
    EXPECT_FALSE(same(both.capture, traced_run(tiny(), {kind}).capture)) << kind;
    EXPECT_FALSE(same(traced_run(tiny(), {perturb, kind}).capture, traced_run(tiny(), {perturb}).capture)) << kind;
  }
}

TEST(FaultyOps, TwoKernelsInOnePlaceAreRefusedByName) {
  try {
    traced_run(tiny(), {"gqa-head-map@decode:stage=attn_out", "f16-accumulate@decode:stage=attn_out"});
    FAIL() << "was accepted";
  } catch (const Error& error) {
    EXPECT_THAT(error.what(), HasSubstr("gqa-head-map@decode"));
    EXPECT_THAT(error.what(), HasSubstr("f16-accumulate@decode"));
    EXPECT_THAT(error.what(), HasSubstr("both replace the computation of attn_out"));
  }
}

TEST(FaultyOps, RowsBesideTheFaultyOneKeepTheirBits) {
  const auto healthy = traced_run(tiny(), {});
  for (const char* kind : {"weight-transposed", "row-shifted", "f16-accumulate", "tail-dropped"}) {
    const auto wrong = traced_run(tiny(), {std::string(kind) + "@prefill:layer=2:position=4:stage=mlp_out"});
    for (const int position : {3, 4, 5}) {
      const Hash128 a = find(healthy.capture, Stage::mlp_out, 2, position)->print.hash;
      EXPECT_EQ(a == find(wrong.capture, Stage::mlp_out, 2, position)->print.hash, position != 4) << kind << " at " << position;
    }
  }
}

TEST(FaultyOps, WhatTheModelLacksIsSaidInOneLine) {
  EXPECT_THAT(refusal(tiny(), "rope-factors-missing@any"),
              HasSubstr("the model has no rope_freqs.weight; it needs a model with"));
  EXPECT_THAT(refusal(tiny(), "bias-missing@any:stage=q"), HasSubstr("the model has no bias there"));
  EXPECT_THAT(refusal(tiny(), "block-scale@any:stage=q"), HasSubstr("the weights there have no blocks"));
  EXPECT_THAT(refusal(tiny(), "block-min@any"), HasSubstr("no blocks with a minimum"));
  EXPECT_THAT(refusal(tiny(), "embedding-row@any:layer=1"), HasSubstr("layer 0 alone"));
  EXPECT_THAT(refusal(tiny(), "qk-permuted@any:stage=k:heads=3"), HasSubstr("k has 128 rows, which are not pairs of 3 heads"));
  EXPECT_THAT(refusal(tiny(), "perturb@any:stage=q:layer=3"), HasSubstr("layer 3 is not one of the model's 0..2"));
  SynthSpec spec = synth_shape("tiny");
  spec.n_layers = 1;
  spec.tied_head = true;
  spec.n_kv_heads = spec.n_heads;
  const auto plain = test::synthetic_model(spec);
  EXPECT_THAT(refusal(*plain, "head-untied-ignored@any"), HasSubstr("the model's head is its embedding table"));
  EXPECT_THAT(refusal(*plain, "rmsnorm-weight@any"), HasSubstr("the model has one layer"));
  EXPECT_THAT(refusal(*plain, "kv-wrong-layer@any:stage=k_cache"), HasSubstr("the model has one layer"));
  EXPECT_THAT(refusal(*plain, "gqa-head-map@any"), HasSubstr("every query head has its own KV head"));
  EXPECT_EQ(refusal(*plain, "gqa-head-map@any:map=next"), "");
  EXPECT_EQ(refusal(tiny(), "head-untied-ignored@any"), "");
}

TEST(FaultyOps, RecordsShowWhatAKernelWasHanded) {
  const int p = test::kSweepPrompt;
  const auto theta = traced_run(tiny(), {"rope-theta@decode:layer=1:theta=500"}).capture;
  EXPECT_EQ(operand(theta, Stage::q_rope, 1, p, "theta")->value, 500.0);
  EXPECT_EQ(operand(theta, Stage::q_rope, 0, p, "theta")->value, 10000.0);
  const auto weight = traced_run(tiny(), {"rmsnorm-weight@decode:layer=1:stage=ffn_norm"}).capture;
  EXPECT_EQ(operand(weight, Stage::ffn_norm, 1, p, "weight")->name, "blk.2.ffn_norm.weight");
  const auto head = traced_run(tiny(), {"head-untied-ignored@decode"}).capture;
  EXPECT_EQ(operand(head, Stage::logits, 3, p, "weight")->name, "token_embd.weight");
  const auto healthy = traced_run(tiny(), {}).capture;
  const auto shifted = traced_run(tiny(), {"row-shifted@decode:layer=1:stage=q"}).capture;
  EXPECT_NE(operand(shifted, Stage::q, 1, p, "weight")->hash, operand(healthy, Stage::q, 1, p, "weight")->hash);
  EXPECT_EQ(operand(shifted, Stage::q, 0, p, "weight")->hash, operand(healthy, Stage::q, 0, p, "weight")->hash);
}

TEST(FaultyOps, OperandsOfAWrongKernelAreRecordedAsTheyWereRightly) {
  const int p = test::kSweepPrompt;
  const auto healthy = traced_run(tiny(), {}).capture;
  for (const char* fault : {"layernorm-for-rmsnorm@decode:layer=0", "f16-accumulate@decode:layer=0:stage=q",
                            "gqa-head-map@decode:layer=0", "residual-twice@decode:layer=0"}) {
    const auto wrong = traced_run(tiny(), {fault}).capture;
    const auto first = test::first_difference(healthy, wrong);
    ASSERT_TRUE(first) << fault;
    const StageRecord *a = find(healthy, first->stage, 0, p - 1), *b = find(wrong, first->stage, 0, p - 1);
    ASSERT_EQ(a->operands.size(), b->operands.size()) << fault;
    ASSERT_FALSE(a->operands.empty());
    for (std::size_t i = 0; i < a->operands.size(); ++i) {
      EXPECT_EQ(a->operands[i].hash, b->operands[i].hash) << fault;
      EXPECT_EQ(a->operands[i].value, b->operands[i].value) << fault;
    }
  }
}

TEST(FaultyOps, KindsWithLoopsOfTheirOwnActOnPlanFloat64Too) {
  for (const char* fault : {"layernorm-for-rmsnorm@decode:layer=1", "f16-accumulate@decode:layer=1:stage=attn_scores",
                            "softmax-no-max@decode:layer=1", "mask-off-by-one@decode:layer=1",
                            "merge-empty-chunk@decode:layer=1", "uninitialised-tail@decode:layer=1:stage=q",
                            "kv-stale@decode:layer=1", "residual-source@decode:layer=1", "logits-row@decode"})
    EXPECT_GT(traced_run(tiny(), {fault}, 0, "float64").effects, 0) << fault;
}

}  // namespace
}  // namespace greta
