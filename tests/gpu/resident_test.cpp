// A session on the device against the ops of the host, row by row, graphs included; and that a wrong kernel in it is seen.
#include <gtest/gtest.h>

#include <map>
#include <set>
#include <tuple>

#include "core/error.h"
#include "engine/device_session.h"
#include "recording/device_recorder.h"
#include "recording/recorder.h"
#include "recording/recording_ops.h"
#include "tests/engine/synthetic.h"
#include "tests/gpu/devices.h"

namespace greta::gpu {
namespace {

using Key = std::tuple<int, int, Stage>;  // step, position of the row, stage; layer below
using Prints = std::map<std::pair<Key, int>, StageRecord>;

Prints by_key(const Capture& capture) {
  Prints out;
  for (const StageRecord& record : capture.records)
    if (!record.reread) out[{{record.step, record.position, record.stage}, record.layer}] = record;
  return out;
}

class ResidentSessions : public testing::TestWithParam<TestDevice> {
 protected:
  static constexpr int kPrompt = 20, kDecodes = 4;

  void SetUp() override {
    SynthSpec spec = test::small_shape();
    spec.dtype = DType::f16;
    model_ = test::synthetic_model(spec);
    device_model_.device = open_device(GetParam().backend, GetParam().index);
    device_model_.weights = std::make_unique<WeightStore>(*device_model_.device, all_weights(model_->weights));
    device_model_.weights->upload_all({});
    for (int i = 0; i < kPrompt + kDecodes; ++i) tokens_.push_back(i * 37 % model_->config.vocab_size);
  }
  static RecorderOptions sliced() {
    RecorderOptions options;
    options.sample = 16;
    return options;
  }
  Capture header() const {
    Capture capture;
    capture.tokens = tokens_;
    capture.n_layers = model_->config.n_layers;
    return capture;
  }
  template <class Step>
  void run(const Step& step) const {
    std::vector<RowId> rows;
    for (int p = 0; p < kPrompt; ++p) rows.push_back({0, p});
    const std::int32_t last = kPrompt - 1, first = 0;
    step(Phase::prefill, Batch{std::span(tokens_).first(kPrompt), rows, {&last, 1}});
    for (int p = kPrompt; p < kPrompt + kDecodes; ++p) {
      const RowId row{0, p};
      step(Phase::decode, Batch{{&tokens_[static_cast<std::size_t>(p)], 1}, {&row, 1}, {&first, 1}});
    }
  }
  /// `replays`: graphs that it replayed.
  Capture resident(const Plan& plan, KernelFault fault = KernelFault::none, int* replays = nullptr) {
    DeviceSession session(*model_, device_model_, plan, {.capacity = kPrompt + kDecodes, .most_rows = kPrompt});
    session.ops().plant(fault);
    DeviceRecorder recorder(header(), sliced(), *device_model_.device);
    run([&](Phase phase, const Batch& batch) { (void)session.step(phase, batch, &recorder); });
    if (replays != nullptr) *replays = session.replays();
    return recorder.capture();
  }
  Capture observed(const Plan& plan) {
    const std::unique_ptr<Ops> ops = make_bridge_ops(device_model_, plan.routes(1));
    RecordingOps recording(*ops);
    WeightHashes weights;
    Recorder recorder(header(), sliced(), weights);
    recording.set_recorder(&recorder);
    KvCache kv(plan.kv, model_->config.n_layers, 1, kPrompt + kDecodes,
               std::int64_t{model_->config.n_kv_heads} * model_->config.head_dim);
    Session session(*model_, plan, recording, kv);
    run([&](Phase phase, const Batch& batch) { (void)session.step(phase, batch, &recorder); });
    return recorder.capture();
  }

  std::shared_ptr<const Model> model_;
  DeviceModel device_model_;
  std::vector<std::int32_t> tokens_;
};

TEST_P(ResidentSessions, RecordWhatTheObservedPathRecords) {
  // With and without copies that are late: only who waits for them has what they bring.
  for (const auto& [plan_name, jitter] : {std::pair{"reference", 0u}, {"invariant", 0u}, {"invariant", 1u}}) {
    const Plan plan = make_plan(plan_name, std::nullopt, {}, Target::gpu);
    int replays = 0;
    device_model_.device->jitter(jitter);
    const Capture here = resident(plan, KernelFault::none, &replays);
    device_model_.device->jitter(0);
    const Capture there = observed(plan);
    EXPECT_EQ(replays, kDecodes);
    const Prints a = by_key(here), b = by_key(there);
    ASSERT_EQ(a.size(), b.size());
    for (const auto& [key, record] : b) {
      const auto met = a.find(key);
      ASSERT_NE(met, a.end());
      const Fingerprint &x = met->second.print, &y = record.print;
      const std::string where = std::string(name(record.stage)) + " " + std::to_string(record.layer);
      EXPECT_EQ(x.hash, y.hash) << where;
      EXPECT_EQ(x.sketch, y.sketch) << where;
      EXPECT_EQ(x.sample, y.sample) << where;
      EXPECT_EQ(x.rms, y.rms) << where;
      EXPECT_EQ(x.mean, y.mean) << where;
      EXPECT_EQ(x.min, y.min) << where;
      EXPECT_EQ(met->second.dtype, record.dtype) << where;
      if (!met->second.route.empty()) {
        EXPECT_EQ(met->second.route, record.route) << where;
      }
    }
    ASSERT_EQ(here.logits.size(), there.logits.size());
    for (std::size_t i = 0; i < here.logits.size(); ++i) {
      EXPECT_EQ(here.logits[i].hash, there.logits[i].hash);
      EXPECT_EQ(here.logits[i].top1_id, there.logits[i].top1_id);
      EXPECT_EQ(here.logits[i].top2_logit, there.logits[i].top2_logit);
    }
  }
}

TEST_P(ResidentSessions, AWrongKernelInAGraphIsSeen) {
  const Plan plan = make_plan("reference", std::nullopt, {}, Target::gpu);
  const Prints healthy = by_key(resident(plan)), wrong = by_key(resident(plan, KernelFault::wrong_wave_size));
  std::set<Stage> differing;
  for (const auto& [key, record] : healthy)
    if (wrong.at(key).print.hash != record.print.hash && std::get<0>(key.first) == kDecodes) differing.insert(record.stage);
  EXPECT_TRUE(differing.contains(Stage::attn_norm));
}

TEST_P(ResidentSessions, RefuseWhatCannotBeComputed) {
  DeviceSession session(*model_, device_model_, make_plan("reference", std::nullopt, {}, Target::gpu),
                        {.capacity = 8, .most_rows = 4});
  const std::vector<RowId> twice{{0, 0}, {0, 0}}, late{{0, 3}}, one{{0, 0}};
  const std::int32_t wanted = 4;
  EXPECT_THROW((void)session.step(Phase::prefill, {std::span(tokens_).first(2), twice, {}}, nullptr), Error);
  EXPECT_THROW((void)session.step(Phase::prefill, {std::span(tokens_).first(1), late, {}}, nullptr), Error);
  EXPECT_THROW((void)session.step(Phase::prefill, {std::span(tokens_).first(1), one, {&wanted, 1}}, nullptr), Error);
}

GRETA_ON_ALL_DEVICES(ResidentSessions);

}  // namespace
}  // namespace greta::gpu
