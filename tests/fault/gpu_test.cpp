// Faults of GPU kernels and of copies to a GPU, one op at a time on both emulated devices: where they act, where they do not,
// and who cannot have them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/half.h"
#include "fault/spoil.h"
#include "ops/gpu/bridge_ops.h"
#include "tests/fault/traced.h"
#include "tests/ops/harness.h"

namespace greta {
namespace {

using test::Tensor;
using ::testing::HasSubstr;

const Model& model_of(DType dtype) {
  static std::map<DType, std::shared_ptr<const Model>> known;
  auto& model = known[dtype];
  if (!model) {
    SynthSpec spec = synth_shape("tiny");
    spec.n_layers = 2;
    spec.seed = 12;
    spec.dtype = dtype;
    model = test::synthetic_model(spec);
  }
  return *model;
}

/// The ops of a GPU with one fault, decoding.
struct FaultyDevice {
  const Model& model;
  Plan plan;
  gpu::DeviceModel device;
  std::unique_ptr<Ops> bridge;
  FaultyOps faulty;

  FaultyDevice(int index, const std::string& fault, const std::string& plan_name = "reference", DType dtype = DType::f32)
      : model(model_of(dtype)),
        plan(make_plan(plan_name, std::nullopt, {}, Target::gpu)),
        device(opened(index, model)),
        bridge(gpu::make_bridge_ops(device, plan.routes(1))),
        faulty(*bridge, *bridge, {model, 8, 0, 1, Target::gpu, plan.routes(1)}, {parse_fault(fault)}) {
    faulty.begin_step({Phase::decode, 0, {}}, plan.routes(1));
  }
  static gpu::DeviceModel opened(int index, const Model& model) {
    gpu::DeviceModel made;
    made.device = gpu::open_device("emulated", index);
    made.weights = std::make_unique<gpu::WeightStore>(*made.device, all_weights(model.weights));
    return made;
  }
  /// Elements that the fault changed since the last call.
  std::int64_t effects() {
    const std::int64_t all = faulty.effects(), more = all - seen_;
    seen_ = all;
    return more;
  }

 private:
  std::int64_t seen_ = 0;
};

Tensor random_rows(std::int64_t rows, std::int64_t cols, double scale = 1) {
  std::mt19937_64 random(3);
  Tensor x(DType::f32, rows, cols);
  x.fill_normal(random, scale);
  return x;
}

void norm(FaultyDevice& on, const Tensor& out) {
  const RowId rows[] = {{0, 9}};
  const Tensor x = random_rows(1, on.model.config.d_model);
  on.faulty.rmsnorm({Stage::ffn_norm, 1, rows}, x.view(), on.model.weights.layers[1].ffn_norm, 1e-5, out.view());
}

void product(FaultyDevice& on, const Tensor& out) {
  const RowId rows[] = {{0, 9}};
  const Tensor x = random_rows(1, on.model.config.d_model);
  on.faulty.matmul({Stage::q, 1, rows}, x.view(), on.model.weights.layers[1].wq, {}, out.view());
}

Tensor rope(FaultyDevice& on, std::int32_t position) {
  const ModelConfig& c = on.model.config;
  const RowId rows[] = {{0, position}};
  const std::int32_t positions[] = {position};
  RopeParams params;
  params.head_dim = params.n_rot = c.head_dim;
  const Tensor x = random_rows(1, std::int64_t{c.n_heads} * c.head_dim);
  Tensor out(DType::f32, 1, x.view().n_cols);
  on.faulty.rope({Stage::q_rope, 1, rows}, x.view(), params, positions, out.view());
  return out;
}

bool equal(const Tensor& a, const Tensor& b) {
  return changed_elements(copy_rows(a.view()), copy_rows(b.view()), DType::f32) == 0;
}

class GpuFaults : public testing::TestWithParam<int> {};

TEST_P(GpuFaults, ANarrowPositionTurnsAsOneOf256Less) {
  FaultyDevice wrong(GetParam(), "gpu-position-narrow@any:stage=q_rope");
  FaultyDevice healthy(GetParam(), "gpu-position-narrow@prefill:stage=q_rope");
  EXPECT_TRUE(equal(rope(wrong, 300), rope(healthy, 300 - 256)));
  EXPECT_GT(wrong.effects(), 0);
  EXPECT_TRUE(equal(rope(wrong, 255), rope(healthy, 255)));
  EXPECT_EQ(wrong.effects(), 0);
}

TEST_P(GpuFaults, AMergeStrideActsWhereThereAreTwoParts) {
  const ModelConfig& c = model_of(DType::f16).config;
  FaultyDevice on(GetParam(), "gpu-merge-stride@any:stage=attn_out", "invariant", DType::f16);
  KvCache kv(DType::f16, c.n_layers, 1, 301, std::int64_t{c.n_kv_heads} * c.head_dim);
  const Tensor out(DType::f32, 1, std::int64_t{c.n_heads} * c.head_dim);
  const AttentionParams heads{.n_heads = c.n_heads, .n_kv_heads = c.n_kv_heads, .head_dim = c.head_dim};
  std::mt19937_64 random(4);
  Tensor value(DType::f32, 1, std::int64_t{c.n_kv_heads} * c.head_dim);
  for (std::int32_t p = 0; p <= 300; ++p) {
    const RowId row[] = {{0, p}};
    value.fill_normal(random, 1);
    for (std::int64_t i = 0; i < value.view().n_cols; ++i)
      reinterpret_cast<std::uint16_t*>(kv.write_slot(KvPart::v, 1, row[0]))[i] = f32_to_f16(value.view().row_as<float>(0)[i]);
  }
  for (const std::int32_t position : {255, 256, 300}) {
    const RowId rows[] = {{0, position}};
    Tensor probs = random_rows(1, std::int64_t{c.n_heads} * (position + 1), 0.01);
    on.faulty.pv({Stage::attn_out, 1, rows}, probs.view(), heads, kv, out.view());
    EXPECT_EQ(on.effects() > 0, position > 255) << position;
  }
}

/// What a device of the other size makes of a sum, and NaN from behind the row.
TEST_P(GpuFaults, ErrorsOfSumsActAtOnce) {
  FaultyDevice wave(GetParam(), "gpu-wave-size@decode:stage=ffn_norm");
  const Tensor out(DType::f32, 1, wave.model.config.d_model);  // as many as q has
  norm(wave, out);
  EXPECT_EQ(wave.effects(), wave.model.config.d_model);
  FaultyDevice half(GetParam(), "gpu-f16-accumulate@decode:stage=q");
  product(half, out);
  EXPECT_GT(half.effects(), 0);
  FaultyDevice padding(GetParam(), "gpu-padding@decode:stage=q");
  product(padding, out);
  EXPECT_TRUE(std::isnan(out.view().row_as<float>(0)[0]));
}

TEST_P(GpuFaults, AMissingBarrierDependsOnTheOrderOfThreads) {
  FaultyDevice on(GetParam(), "gpu-missing-barrier@decode:stage=ffn_norm");
  std::set<std::vector<std::byte>> results;
  for (std::uint64_t seed = 0; seed < 4; ++seed) {
    const Tensor out(DType::f32, 1, on.model.config.d_model);
    on.device.device->jitter(seed);
    norm(on, out);
    results.insert(copy_rows(out.view()));
  }
  on.device.device->jitter(0);
  EXPECT_GT(results.size(), 1u);
}

/// The copy is late under odd seeds: then the race is lost, and never otherwise.
TEST_P(GpuFaults, RacesOfCopiesAreLostWhereCopiesAreLate) {
  for (const char* kind : {"gpu-staging-reused", "gpu-wrong-stream"}) {
    FaultyDevice on(GetParam(), std::string(kind) + "@decode:stage=ffn_norm");
    const Tensor healthy(DType::f32, 1, on.model.config.d_model);
    norm(on, healthy);
    EXPECT_EQ(on.effects(), 0) << kind;
    for (const std::uint64_t seed : {1, 2, 3}) {
      const Tensor out(DType::f32, 1, on.model.config.d_model);
      on.device.device->jitter(seed);
      norm(on, out);
      on.device.device->jitter(0);
      EXPECT_EQ(on.effects() > 0, seed % 2 == 1) << kind << " seed " << seed;
      EXPECT_EQ(equal(out, healthy), seed % 2 == 0) << kind << " seed " << seed;
    }
  }
}

/// The residual stream and the branch both come late.
TEST_P(GpuFaults, RacesAreOfEveryMatrixThatAnOpReads) {
  FaultyDevice on(GetParam(), "gpu-wrong-stream@decode:stage=x_after_attn");
  const RowId rows[] = {{0, 9}};
  const Tensor a = random_rows(1, 50), b = random_rows(1, 50, 2), out(DType::f32, 1, 50);
  on.device.device->jitter(1);
  on.faulty.add({Stage::x_after_attn, 1, rows}, a.view(), b.view(), out.view());
  on.device.device->jitter(0);
  EXPECT_EQ(on.effects(), 50);
}

/// What is planted is taken out again: the call after it is healthy.
TEST_P(GpuFaults, NothingStaysPlanted) {
  for (const char* kind : {"gpu-wave-size", "gpu-wrong-stream", "gpu-missing-barrier"}) {
    FaultyDevice on(GetParam(), std::string(kind) + "@decode:stage=ffn_norm");
    const RowId rows[] = {{0, 9}};
    const Tensor x = random_rows(1, on.model.config.d_model);
    const Tensor before(DType::f32, 1, on.model.config.d_model), after(DType::f32, 1, on.model.config.d_model);
    const auto straight = [&](const Tensor& out) {
      on.bridge->rmsnorm({Stage::ffn_norm, 1, rows}, x.view(), on.model.weights.layers[1].ffn_norm, 1e-5, out.view());
    };
    straight(before);
    on.device.device->jitter(1);
    norm(on, after);
    EXPECT_GT(on.effects(), 0) << kind;
    straight(after);
    on.device.device->jitter(0);
    EXPECT_TRUE(equal(before, after)) << kind;
  }
}

INSTANTIATE_TEST_SUITE_P(Emulated, GpuFaults, testing::Values(0, 1),
                         [](const testing::TestParamInfo<int>& device) { return device.param == 0 ? "wave32" : "wave64"; });

std::string refusal(const std::string& fault, Target target, const std::string& plan = "reference", DType dtype = DType::f32) {
  const RouteTable routes = make_plan(plan, std::nullopt, {}, target).routes(1);
  try {
    check_fault(parse_fault(fault), {model_of(dtype), 8, 0, 1, target, routes});
  } catch (const Error& error) {
    return error.what();
  }
  return "";
}

TEST(GpuFaultTargets, EveryKindOfTheFamilyIsRefusedOnTheCpu) {
  int kinds = 0;
  for (const FaultInfo& kind : fault_catalogue()) {
    if (kind.family != "gpu") continue;
    ++kinds;
    const std::string fault = fmt::format("{}@decode:stage={}", kind.name, name(kind.stages.front()));
    EXPECT_THAT(refusal(fault, Target::cpu),
                HasSubstr(": the arm computes on the cpu; it needs a GPU backend (cuda, hip or emulated)"));
  }
  EXPECT_EQ(kinds, 8);
}

TEST(GpuFaultTargets, ARouteThatHidesTheFaultIsNamed) {
  EXPECT_THAT(refusal("gpu-merge-stride@decode:stage=attn_out", Target::gpu),
              HasSubstr("stage attn_out is made by route reference of pv, which hides it; it needs"));
  EXPECT_THAT(refusal("gpu-wave-size@decode:stage=q", Target::gpu, "invariant", DType::f16),
              HasSubstr("stage q is made by route invariant of matmul, which hides it"));
  EXPECT_THAT(refusal("gpu-missing-barrier@decode:stage=q", Target::gpu, "invariant", DType::f32),
              HasSubstr("stage q is made by route reference of matmul, which hides it"));
  EXPECT_THAT(refusal("gpu-padding@decode:stage=q", Target::gpu, "q8", DType::q8_0),
              HasSubstr("stage q is made by route q8 of matmul, which hides it"));
  EXPECT_THAT(refusal("gpu-merge-stride@decode:stage=q", Target::gpu, "invariant", DType::f16),
              HasSubstr("stage q is a sum of 256 inputs, and 512 are one part"));
  EXPECT_THAT(refusal("gpu-wave-size@decode:stage=q_norm", Target::gpu), HasSubstr("the model has no q_norm"));
}

TEST(GpuFaultTargets, ARouteThatHasItIsNot) {
  EXPECT_EQ(refusal("gpu-merge-stride@decode:stage=attn_out", Target::gpu, "invariant", DType::f16), "");
  EXPECT_EQ(refusal("gpu-missing-barrier@decode:stage=q", Target::gpu, "invariant", DType::f16), "");
  EXPECT_EQ(refusal("gpu-wave-size@decode:stage=q", Target::gpu, "q8", DType::q8_0), "");
  EXPECT_EQ(refusal("gpu-wave-size@decode", Target::gpu), "");  // omitted: the norms have it
  EXPECT_EQ(refusal("gpu-f16-accumulate@decode:stage=logits", Target::gpu, "q8", DType::q8_0), "");
}

}  // namespace
}  // namespace greta
