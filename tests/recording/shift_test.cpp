// What a recorder keeps of a context shift: every slot as the shift left it, with the operands, and nothing from before.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <tuple>

#include "fault/faulty_ops.h"
#include "recording/recorder.h"
#include "recording/recording_ops.h"
#include "tests/engine/synthetic.h"

namespace greta {
namespace {

constexpr int kKeep = 2, kDiscard = 3, kPrefix = 9, kRows = 4, kMoved = kPrefix - kDiscard;
std::vector<std::int32_t> tokens() {
  std::vector<std::int32_t> all;
  for (int i = 0; i < kPrefix + kRows; ++i) all.push_back(17 * i % 500);
  return all;
}

/// One arm: prefix, shift, then the rest decoded. `not_turned`: K of this layer does not turn (-1: healthy).
Capture run(const Model& model, DType kv_type, int not_turned = -1) {
  const Plan plan = make_plan("reference", kv_type, {});
  WeightHashes weights;
  KvCache kv(kv_type, model.config.n_layers, 2, 64, std::int64_t{model.config.n_kv_heads} * model.config.head_dim);
  ThreadPool pool(1);
  const auto route = make_cpu_ops({.routes = plan.routes(1), .isa = supported_isas().back(), .pool = pool});
  Capture header;
  header.tokens = tokens();
  header.tokens.erase(header.tokens.begin() + kKeep, header.tokens.begin() + kKeep + kDiscard);
  header.n_prompt = static_cast<std::int32_t>(header.tokens.size());
  header.n_layers = model.config.n_layers;
  RecorderOptions options;
  options.after_shift = true;
  Recorder recorder(header, options, weights);
  RecordingOps recording(*route, &recorder);
  FaultyOps faulty(recording, *route, {model, header.n_prompt}, {});
  Session session(model, plan, faulty, kv);
  const auto all = tokens();
  session.prefill(std::span(all).first(kPrefix), 0, 4, 1 << 20, &recorder, [](const TensorView&) {});
  if (not_turned < 0) {
    session.sequences().context_shift(kKeep, kDiscard, &recorder);
  } else {  // what context_shift does, with one layer forgotten
    std::vector<RowId> moved, slots;
    for (int p = 0; p < kMoved; ++p) slots.push_back({0, p});
    for (int p = kKeep; p < kMoved; ++p) moved.push_back({0, p});
    for (int layer = 0; layer < model.config.n_layers; ++layer) {
      const RopeParams rope = rope_of(model, layer);
      faulty.kv_shift({Stage::k_cache, layer, moved}, {KvPart::k, -kDiscard, layer == not_turned ? 0 : -kDiscard, rope}, kv);
      tap_slots(recorder, Stage::k_cache, layer, KvPart::k, kv, slots);
      faulty.kv_shift({Stage::v_cache, layer, moved}, {KvPart::v, -kDiscard, 0, rope}, kv);
      tap_slots(recorder, Stage::v_cache, layer, KvPart::v, kv, slots);
    }
  }
  for (int i = 0; i < kRows; ++i) session.decode(all[static_cast<std::size_t>(kPrefix + i)], kMoved + i, &recorder);
  return recorder.capture();
}

SynthSpec heads_of_32() {
  SynthSpec spec = test::small_shape();
  spec.d_model = 64, spec.n_heads = 2, spec.n_kv_heads = 1;
  return spec;
}

TEST(RecordingOfAShift, KeepsEverySlotOnceAndNothingFromBefore) {
  const auto model = test::synthetic_model(heads_of_32());
  for (const DType kv : {DType::f32, DType::q8_0}) {
    const Capture capture = run(*model, kv);
    EXPECT_EQ(capture.schedule, (std::vector<std::int32_t>{4, 4, 1, 1, 1, 1, 1}));
    EXPECT_EQ(capture.kv_slots_read_from_earlier_steps, kMoved + kRows - 1);
    std::set<std::tuple<std::int32_t, std::int32_t, Stage>> keys;
    int slots = 0;
    for (const StageRecord& record : capture.records) {
      const bool slot = record.stage == Stage::k_cache || record.stage == Stage::v_cache;
      EXPECT_TRUE(keys.insert({record.position, record.layer, record.stage}).second)
          << name(record.stage) << " " << record.position;
      EXPECT_FALSE(record.reread);
      EXPECT_EQ(record.token_id, capture.tokens[static_cast<std::size_t>(record.position)]);
      if (record.position < kMoved) {
        EXPECT_TRUE(slot) << name(record.stage) << " at " << record.position << " is from before the shift";
        EXPECT_EQ(record.dtype, kv);
        ++slots;
        const auto& operands = record.operands;
        const auto delta = std::find_if(operands.begin(), operands.end(), [](const auto& o) { return o.argument == "delta"; });
        EXPECT_EQ(delta != operands.end(), record.position >= kKeep);
        if (delta != operands.end()) {
          EXPECT_EQ(delta->value, -kDiscard);
        }
      }
    }
    EXPECT_EQ(slots, 2 * model->config.n_layers * kMoved);
  }
}

TEST(RecordingOfAShift, AShiftMissingInOneLayerIsFirstSeenAtTheFirstSlotThatMoved) {
  const auto model = test::synthetic_model(heads_of_32());
  for (const DType kv : {DType::f32, DType::q8_0})
    for (int layer = 0; layer < model->config.n_layers; ++layer) {
      const Capture a = run(*model, kv), b = run(*model, kv, layer);
      ASSERT_EQ(a.records.size(), b.records.size());
      std::tuple<int, int, Stage, int> first{1 << 20, 0, Stage::x_in, 0};  // step, layer, stage, position
      for (std::size_t i = 0; i < a.records.size(); ++i) {
        ASSERT_EQ(a.records[i].stage, b.records[i].stage);
        if (a.records[i].print.hash != b.records[i].print.hash)
          first = std::min(first, {b.records[i].step, b.records[i].layer, b.records[i].stage, b.records[i].position});
      }
      EXPECT_EQ(first, (std::tuple<int, int, Stage, int>{2, layer, Stage::k_cache, kKeep}));
    }
}

}  // namespace
}  // namespace greta
