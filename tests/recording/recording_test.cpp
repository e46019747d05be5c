#include <gtest/gtest.h>

#include <cmath>
#include <map>

#include "fault/faulty_ops.h"
#include "recording/recorder.h"
#include "recording/recording_ops.h"
#include "tests/engine/synthetic.h"
#include "trace/fingerprint.h"

namespace greta {
namespace {

const std::vector<std::int32_t> kTokens{7, 300, 12, 55, 201, 9};

/// An engine with recorder and faults around its routes.
struct Traced {
  WeightHashes weights;
  KvCache kv;
  ThreadPool pool{1};
  std::unique_ptr<Ops> route;
  Recorder recorder;
  RecordingOps recording;
  FaultyOps faulty;
  Session session;

  Traced(const Model& model, const Plan& plan, std::vector<FaultSpec> faults = {}, RecorderOptions options = {})
      : kv(plan.kv, model.config.n_layers, 1, 128, std::int64_t{model.config.n_kv_heads} * model.config.head_dim),
        route(make_cpu_ops({.routes = plan.routes(1), .isa = supported_isas().back(), .pool = pool})),
        recorder(header(model), std::move(options), weights),
        recording(*route, &recorder),
        faulty(recording, *route, {model, static_cast<std::int32_t>(kTokens.size())}, std::move(faults)),
        session(model, plan, faulty, kv) {}

  static Capture header(const Model& model) {
    Capture capture;
    capture.tokens = kTokens;
    capture.n_prompt = static_cast<std::int32_t>(kTokens.size());
    capture.n_layers = model.config.n_layers;
    return capture;
  }

  /// Prefills all tokens but the last, decodes that one; its logits.
  std::vector<double> aligned_decode() {
    const auto n = static_cast<std::int32_t>(kTokens.size());
    session.prefill(std::span(kTokens).first(kTokens.size() - 1), 0, 0, n, &recorder, [](const TensorView&) {});
    return row_values(session.decode(kTokens.back(), n - 1, &recorder), 0);
  }

  const StageRecord* find(Stage stage, int layer, int position, bool reread = false) const {
    for (const StageRecord& record : const_cast<Recorder&>(recorder).capture().records)
      if (record.stage == stage && record.layer == layer && record.position == position && record.reread == reread) return &record;
    return nullptr;
  }
};

class Plans : public testing::TestWithParam<const char*> {};

TEST_P(Plans, ObservingChangesNoBit) {
  const auto model = test::synthetic_model(test::small_shape());
  const Plan plan = make_plan(GetParam(), std::nullopt, {});
  Traced traced(*model, plan);
  test::Engine plain(*model, plan);
  plain.session.prefill(std::span(kTokens).first(5), 0, 0, 6, nullptr, [](const TensorView&) {});
  EXPECT_EQ(traced.aligned_decode(), row_values(plain.session.decode(kTokens.back(), 5, nullptr), 0));
}

INSTANTIATE_TEST_SUITE_P(All, Plans, testing::Values("reference", "float64"));

TEST(Recording, HoldsEveryStageOfEveryRow) {
  const auto model = test::synthetic_model(test::small_shape());
  Traced run(*model, make_plan("reference", std::nullopt, {}));
  run.aligned_decode();
  for (const Stage stage : all_stages()) {
    if (stage == Stage::q_norm || stage == Stage::k_norm || stage == Stage::attn_post_norm || stage == Stage::ffn_post_norm ||
        stage == Stage::head_out || is_quantised(stage))
      continue;  // neither llama nor the plan has them
    for (int layer = once_per_token(stage) ? 2 : 0; layer < (once_per_token(stage) ? 3 : 2); ++layer)
      for (int position = once_per_token(stage) ? 5 : 0; position < 6; ++position)
        EXPECT_NE(run.find(stage, layer, position), nullptr) << name(stage) << " layer " << layer << " position " << position;
  }
  const Capture& capture = run.recorder.capture();
  EXPECT_EQ(capture.schedule, (std::vector<std::int32_t>{5, 1}));
  EXPECT_EQ(capture.kv_slots_read_from_earlier_steps, 5);
  ASSERT_EQ(capture.logits.size(), 1u);
  EXPECT_EQ(capture.logits[0].token_id, 9);
  EXPECT_EQ(run.find(Stage::attn_scores, 0, 3)->print.count, 4 * model->config.n_heads);  // keys 0..3
}

std::shared_ptr<const Model> quantised_model() {
  SynthSpec spec = test::small_shape();
  spec.dtype = DType::q8_0;
  return test::synthetic_model(spec);
}

TEST(Recording, QuantisedInputsAreStagesOfTheirOwnAndNothingChangesWhoIsWatched) {
  const auto model = quantised_model();
  const Plan plan = make_plan("q8", std::nullopt, {});
  RecorderOptions options;
  options.full = true;
  Traced traced(*model, plan, {}, options);
  test::Engine plain(*model, plan);
  plain.session.prefill(std::span(kTokens).first(5), 0, 0, 6, nullptr, [](const TensorView&) {});
  EXPECT_EQ(traced.aligned_decode(), row_values(plain.session.decode(kTokens.back(), 5, nullptr), 0));

  for (const auto& [stage, source, reader] : {std::tuple{Stage::attn_norm_q8, Stage::attn_norm, Stage::v},
                                              {Stage::attn_out_q8, Stage::attn_out, Stage::wo_out},
                                              {Stage::ffn_norm_q8, Stage::ffn_norm, Stage::ffn_up},
                                              {Stage::ffn_act_q8, Stage::ffn_act, Stage::mlp_out},
                                              {Stage::lm_head_in_q8, Stage::lm_head_in, Stage::logits}}) {
    const int layer = once_per_token(stage) ? model->config.n_layers : 1;
    const StageRecord* quantised = traced.find(stage, layer, 5);
    const StageRecord* read = traced.find(reader, layer, 5);
    const StageRecord* original = traced.find(source, layer, 5);
    ASSERT_NE(quantised, nullptr) << name(stage);
    EXPECT_EQ(quantised->dtype, DType::q8_f32);
    EXPECT_EQ(quantised->print.count, original->print.count);
    EXPECT_NEAR(quantised->print.rms, original->print.rms, 0.01 * original->print.rms);
    ASSERT_FALSE(quantised->operands.empty());
    EXPECT_EQ(quantised->operands[0].hash, original->print.hash);
    EXPECT_EQ(read->operands[0].producer_stage, stage);
    EXPECT_EQ(read->operands[0].hash, quantised->print.hash);
    EXPECT_EQ(read->operands[0].producer_hash, quantised->print.hash);
    EXPECT_EQ(read->route, "q8");
    // Kept whole, the row holds the values whose slice was recorded.
    const FullTensor& full = traced.recorder.full_tensors().at({layer, stage});
    EXPECT_EQ(full.dtype, DType::f64);
    const auto* values = reinterpret_cast<const double*>(full.rows.at(5).data());
    for (std::size_t i = 0; i < quantised->print.sample.size(); ++i) EXPECT_EQ(values[i], quantised->print.sample[i]);
  }
}

TEST(Recording, AnInputOfOneFloatingPointMatrixIsNotQuantised) {
  const auto model = test::synthetic_model(test::small_shape());  // F32
  Traced traced(*model, make_plan("q8", std::nullopt, {}));
  Traced reference(*model, make_plan("reference", std::nullopt, {}));
  EXPECT_EQ(traced.aligned_decode(), reference.aligned_decode());
  EXPECT_EQ(traced.find(Stage::attn_norm_q8, 0, 5), nullptr);
}

TEST(Recording, AnAuditFindsWhatAnArchitectureComputesWith) {
  SynthSpec spec = test::small_shape();
  set_architecture(spec, "gemma2");
  spec.window = 4;
  const auto model = test::synthetic_model(spec);
  Traced run(*model, make_plan("reference", std::nullopt, {}));
  run.aligned_decode();
  const auto scalar = [&](Stage stage, int layer, std::string_view argument) {
    for (const OperandRecord& operand : run.find(stage, layer, 5)->operands)
      if (operand.kind == OperandKind::scalar && operand.argument == argument) return operand.value;
    return std::nan("");
  };
  EXPECT_EQ(scalar(Stage::x_in, 0, "scale"), 16.0);  // sqrt(256)
  EXPECT_EQ(scalar(Stage::attn_scores, 0, "window"), 4.0);
  EXPECT_EQ(scalar(Stage::attn_scores, 1, "window"), 0.0);
  EXPECT_EQ(scalar(Stage::attn_scores, 0, "softcap"), 50.0);
  EXPECT_EQ(scalar(Stage::attn_scores, 0, "scale"), 1 / std::sqrt(32.0));
  EXPECT_EQ(scalar(Stage::ffn_act, 1, "gelu_tanh"), 1.0);
  EXPECT_EQ(scalar(Stage::logits, 2, "cap"), 30.0);
  // Keys 0 and 1 of 0..5 are hidden, for each of 8 heads; the row keeps its shape.
  EXPECT_EQ(run.find(Stage::attn_scores, 0, 5)->print.count, 6 * 8);
  EXPECT_EQ(run.find(Stage::attn_scores, 0, 5)->print.inf, 2 * 8);
  EXPECT_EQ(run.find(Stage::attn_probs, 0, 5)->print.zero, 2 * 8);
  EXPECT_EQ(run.find(Stage::attn_scores, 1, 5)->print.inf, 0);
  EXPECT_EQ(run.recorder.capture().kv_slots_read_from_earlier_steps, 5);
}

TEST(Recording, HealthyOperandsAreWhatTheirProducersWrote) {
  const auto model = test::synthetic_model(test::small_shape());
  Traced run(*model, make_plan("reference", std::nullopt, {}));
  run.aligned_decode();
  int checked = 0;
  for (const StageRecord& record : run.recorder.capture().records)
    for (const OperandRecord& operand : record.operands) {
      if (operand.kind != OperandKind::activation) continue;
      ASSERT_TRUE(operand.producer_hash) << name(record.stage) << " " << operand.argument;
      EXPECT_EQ(*operand.hash, *operand.producer_hash) << name(record.stage);
      EXPECT_EQ(operand.producer_position, record.position);
      ++checked;
    }
  EXPECT_GT(checked, 200);
}

TEST(Recording, ShowsAnInputThatIsNotWhatItsProducerWrote) {
  const auto model = test::synthetic_model(test::small_shape());
  Traced run(*model, make_plan("reference", std::nullopt, {}), {parse_fault("b3_41")});
  run.aligned_decode();
  const StageRecord* record = run.find(Stage::ffn_norm, 0, 5);
  ASSERT_NE(record, nullptr);
  ASSERT_FALSE(record->operands.empty());
  const OperandRecord& x = record->operands.front();
  EXPECT_EQ(x.argument, "x");
  EXPECT_EQ(x.producer_stage, Stage::x_after_attn);
  EXPECT_EQ(x.producer_position, 0);
  EXPECT_NE(*x.hash, *x.producer_hash);
  EXPECT_EQ(*x.hash, run.find(Stage::x_after_attn, 0, 0)->print.hash);
  EXPECT_GT(run.faulty.effects(), 0);
}

TEST(Recording, NamesWeightsAndScalars) {
  const auto model = test::synthetic_model(test::small_shape());
  Traced run(*model, make_plan("reference", std::nullopt, {}), {parse_fault("rmsnorm-epsilon@decode:layer=1:stage=ffn_norm:eps=0.5")});
  run.aligned_decode();
  std::map<std::string, const OperandRecord*> operands;
  for (const OperandRecord& operand : run.find(Stage::ffn_norm, 1, 5)->operands) operands[operand.argument] = &operand;
  EXPECT_EQ(operands.at("weight")->name, "blk.1.ffn_norm.weight");
  EXPECT_EQ(operands.at("weight")->layout, "row_major");
  EXPECT_EQ(operands.at("eps")->value, 0.5);  // what the kernel was given, not what the model says
  operands.clear();
  for (const OperandRecord& operand : run.find(Stage::ffn_norm, 0, 5)->operands) operands[operand.argument] = &operand;
  EXPECT_EQ(operands.at("eps")->value, model->config.rms_eps);
}

TEST(Recording, SeesASlotThatChangedSinceItWasWritten) {
  const auto model = test::synthetic_model(test::small_shape());
  Traced run(*model, make_plan("reference", std::nullopt, {}), {parse_fault("perturb@decode:layer=1:stage=v_cache:position=2")});
  run.aligned_decode();
  const StageRecord* reread = run.find(Stage::v_cache, 1, 2, true);
  ASSERT_NE(reread, nullptr);
  EXPECT_EQ(reread->step, 1);
  EXPECT_NE(reread->print.hash, run.find(Stage::v_cache, 1, 2)->print.hash);
  EXPECT_EQ(run.find(Stage::v_cache, 1, 1, true), nullptr);  // unchanged slots are not told again
  EXPECT_EQ(run.find(Stage::k_cache, 1, 2, true), nullptr);
  EXPECT_EQ(run.faulty.effects(), 1);
}

TEST(Recording, KeepsDetailFromTheChosenPositionOn) {
  const auto model = test::synthetic_model(test::small_shape());
  RecorderOptions options;
  options.detail_from = 5;
  options.sample = 10;
  options.stages = {Stage::q, Stage::logits};
  options.layers = {1};
  Traced run(*model, make_plan("reference", std::nullopt, {}), {}, options);
  run.aligned_decode();
  EXPECT_EQ(run.find(Stage::q, 0, 5), nullptr);
  EXPECT_EQ(run.find(Stage::k, 1, 5), nullptr);
  ASSERT_NE(run.find(Stage::q, 1, 5), nullptr);
  EXPECT_EQ(run.find(Stage::q, 1, 5)->print.sample.size(), 10u);
  EXPECT_FALSE(run.find(Stage::q, 1, 5)->print.sketch.empty());
  EXPECT_TRUE(run.find(Stage::q, 1, 4)->print.sample.empty());
  EXPECT_TRUE(run.find(Stage::q, 1, 4)->operands.empty());
  EXPECT_NE(run.find(Stage::logits, 2, 5), nullptr);  // once-a-token stages have no layer to choose
}

}  // namespace
}  // namespace greta
