// Values at the edge: NaN, infinities, denormals; and calls that do not fit.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/error.h"
#include "ops/cpu/convert.h"
#include "tests/ops/harness.h"

namespace greta::test {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

class OnArm : public testing::TestWithParam<Arm> {};
INSTANTIATE_TEST_SUITE_P(Ops, OnArm, testing::ValuesIn(all_arms()), [](const auto& entry) { return entry.param.label(); });

/// Softmax of one head of `scores` and, beside it, of a second head that is all zeros.
std::vector<double> softmax_of(const Arm& arm, const std::vector<double>& scores) {
  const auto n = static_cast<std::int64_t>(scores.size());
  const std::vector<RowId> rows = {{0, static_cast<std::int32_t>(n) - 1}};
  Tensor in(arm.activations, 1, 2 * n), out(arm.activations, 1, 2 * n);
  for (std::int64_t j = 0; j < n; ++j) {
    in.set(0, j, scores[static_cast<std::size_t>(j)]);
    in.set(0, n + j, 0);
  }
  ArmOps(arm)->softmax({Stage::attn_probs, 0, rows}, in.view(), {2, 1, 4, 1.0}, out.view());
  std::vector<double> probs;
  for (std::int64_t j = 0; j < n; ++j) {
    probs.push_back(out.get(0, j));
    EXPECT_NEAR(out.get(0, n + j), 1 / static_cast<double>(n), 1e-7) << "the other head";
  }
  return probs;
}

TEST_P(OnArm, SoftmaxGivesNanToTheWholeHeadAndOnlyToIt) {
  if (!GetParam().runs_here()) return;
  for (const std::size_t at : {0u, 3u, 15u, 16u, 20u}) {
    std::vector<double> scores(21, 1.0);
    for (const double bad : {kNan, kInfinity}) {
      scores[at] = bad;
      for (const double p : softmax_of(GetParam(), scores)) EXPECT_TRUE(std::isnan(p)) << at << ' ' << bad;
    }
  }
  for (const double p : softmax_of(GetParam(), std::vector<double>(5, -kInfinity))) EXPECT_TRUE(std::isnan(p));
}

TEST_P(OnArm, SoftmaxGivesZeroToMinusInfinityAndSharesTheRest) {
  if (!GetParam().runs_here()) return;
  std::vector<double> scores(19, -kInfinity);
  scores[2] = scores[17] = 40;
  const std::vector<double> probs = softmax_of(GetParam(), scores);
  for (std::size_t j = 0; j < probs.size(); ++j) EXPECT_EQ(probs[j], j == 2 || j == 17 ? 0.5 : 0.0);
  EXPECT_EQ(softmax_of(GetParam(), {-7e30}), std::vector<double>{1.0});
}

TEST_P(OnArm, DenormalsSurvive) {
  if (!GetParam().runs_here()) return;
  const double tiny = GetParam().activations == DType::f64 ? 0x1p-1060 : 0x1p-140;
  Tensor a(GetParam().activations, 1, 20), b(GetParam().activations, 1, 20), out(GetParam().activations, 1, 20);
  for (int i = 0; i < 20; ++i) {
    a.set(0, i, tiny * (i + 1));
    b.set(0, i, tiny);
  }
  const std::vector<RowId> rows = rows_from(0, 1);
  ArmOps(GetParam())->add({Stage::x_after_mlp, 0, rows}, a.view(), b.view(), out.view());
  for (int i = 0; i < 20; ++i) EXPECT_EQ(out.get(0, i), tiny * (i + 2));

  // 1 * tiny summed over 20 inputs, through the fused chains and the tree.
  std::mt19937_64 random(1);
  const std::vector<float> ones(20, 1.0f);
  const WeightView weight{"w", DType::f32, 1, 20, reinterpret_cast<const std::byte*>(ones.data())};
  Tensor sum(GetParam().activations, 1, 1);
  ArmOps(GetParam())->matmul({Stage::q, 0, rows}, b.view(), weight, {}, sum.view());
  EXPECT_EQ(sum.get(0, 0), 20 * tiny);
}

TEST_P(OnArm, NanAndInfinityPassThroughSumsAndNorms) {
  if (!GetParam().runs_here()) return;
  std::mt19937_64 random(1);
  const Weight weight(DType::f32, 4, 19, random), gain(DType::f32, 1, 19, random);
  Tensor x(GetParam().activations, 2, 19), out(GetParam().activations, 2, 4), normed(GetParam().activations, 2, 19);
  x.fill_normal(random);
  x.set(0, 18, kNan);
  const std::vector<RowId> rows = rows_from(0, 2);
  ArmOps(GetParam())->matmul({Stage::q, 0, rows}, x.view(), weight.view(), {}, out.view());
  ArmOps(GetParam())->rmsnorm({Stage::attn_norm, 0, rows}, x.view(), gain.view(), 1e-5, normed.view());
  for (int o = 0; o < 4; ++o) EXPECT_TRUE(std::isnan(out.get(0, o)) && std::isfinite(out.get(1, o)));
  for (int i = 0; i < 19; ++i) EXPECT_TRUE(std::isnan(normed.get(0, i)) && std::isfinite(normed.get(1, i)));
  x.set(0, 18, kInfinity);
  ArmOps(GetParam())->matmul({Stage::q, 0, rows}, x.view(), weight.view(), {}, out.view());
  for (int o = 0; o < 4; ++o) EXPECT_EQ(out.get(0, o), std::copysign(kInfinity, weight.value(o, 18)));
}

TEST_P(OnArm, SiluAtTheEnds) {
  if (!GetParam().runs_here()) return;
  const std::vector<double> gates = {0.0, 200.0, -200.0, 30.0, kNan, kInfinity, 1.0, -1.0};
  const auto n = static_cast<std::int64_t>(gates.size());
  Tensor gate(GetParam().activations, 1, n), up(GetParam().activations, 1, n), out(GetParam().activations, 1, n);
  for (std::int64_t i = 0; i < n; ++i) {
    gate.set(0, i, gates[static_cast<std::size_t>(i)]);
    up.set(0, i, 2);
  }
  const std::vector<RowId> rows = rows_from(0, 1);
  ArmOps(GetParam())->act_mul({Stage::ffn_act, 0, rows}, Activation::silu, gate.view(), up.view(), out.view());
  EXPECT_EQ(out.get(0, 0), 0.0);
  EXPECT_EQ(out.get(0, 1), 400.0);
  EXPECT_NEAR(out.get(0, 2), 0.0, 1e-80);
  EXPECT_NEAR(out.get(0, 3), 60.0, 1e-11);
  EXPECT_TRUE(std::isnan(out.get(0, 4)));
  EXPECT_EQ(out.get(0, 5), kInfinity);
  EXPECT_NEAR(out.get(0, 6), 1.4621171572600098, 2e-7);
  EXPECT_NEAR(out.get(0, 7), -0.5378828427399902, 1e-7);
}

TEST(Convert, DoubleToHalfRoundsOnce) {
  // Just above the tie between 1 and its successor: by way of float it would become the tie, and go to 1.
  EXPECT_EQ(f64_to_f16(1.0 + 0x1p-11 + 0x1p-40), 0x3c01);
  EXPECT_EQ(f64_to_f16(1.0 + 0x1p-11 - 0x1p-40), 0x3c00);
  EXPECT_EQ(f64_to_f16(1.0 + 0x1p-11), 0x3c00);
  EXPECT_EQ(f64_to_f16(1.0 + 3 * 0x1p-11), 0x3c02);
  EXPECT_EQ(f64_to_f16(-(1.0 + 3 * 0x1p-11) + 0x1p-45), 0xbc01);
  EXPECT_EQ(f64_to_f16(0x1p-25), 0x0000);
  EXPECT_EQ(f64_to_f16(0x1p-25 + 0x1p-70), 0x0001);
  EXPECT_EQ(f64_to_f16(-0x1p-1070), 0x8000);
  EXPECT_EQ(f64_to_f16(65519.99999), 0x7bff);
  EXPECT_EQ(f64_to_f16(65520.0), 0x7c00);
  EXPECT_EQ(f64_to_f16(1e300), 0x7c00);
  EXPECT_EQ(f64_to_f16(-kInfinity), 0xfc00);
  EXPECT_EQ(f64_to_f16(kNan) & 0x7fff, 0x7e00);
}

// --- calls that do not fit ---------------------------------------------------------------------------------------------------

class Misfit : public testing::Test {
 protected:
  std::mt19937_64 random_{1};
  Weight weight_{DType::f32, 6, 8, random_};
  std::vector<RowId> rows_ = rows_from(0, 2);
  OpSite site_{Stage::ffn_up, 3, rows_};
  Tensor x_{DType::f32, 2, 8}, out_{DType::f32, 2, 6};
  ThreadPool pool_{1};
  std::unique_ptr<Ops> ops_ = make_cpu_ops({.pool = pool_});

  template <class F>
  static std::string error_of(const F& f) {
    try {
      f();
    } catch (const Error& error) {
      return error.what();
    }
    return "no error";
  }
};

TEST_F(Misfit, TokensOutsideTheTable) {
  for (const std::int32_t token : {-1, 6, std::numeric_limits<std::int32_t>::max()}) {
    const std::vector<std::int32_t> tokens = {0, token};
    EXPECT_THAT(error_of([&] { ops_->embed(site_, weight_.view(), tokens, 1.0, x_.view()); }),
                testing::HasSubstr(fmt::format("token id {} is outside 0..5", token)));
  }
}

TEST_F(Misfit, ShapesAndTypes) {
  using testing::AllOf;
  using testing::HasSubstr;
  const Tensor narrow(DType::f32, 2, 7), tall(DType::f32, 3, 6), wide(DType::f64, 2, 8);
  EXPECT_THAT(error_of([&] { ops_->matmul(site_, narrow.view(), weight_.view(), {}, out_.view()); }),
              AllOf(HasSubstr("matmul of ffn_up in layer 3"), HasSubstr("x has 7 columns, 8 are needed")));
  EXPECT_THAT(error_of([&] { ops_->matmul(site_, x_.view(), weight_.view(), {}, tall.view()); }), HasSubstr("out has 3 rows"));
  EXPECT_THAT(error_of([&] { ops_->matmul(site_, wide.view(), weight_.view(), {}, out_.view()); }),
              HasSubstr("x is f64, route reference takes f32"));
  EXPECT_THAT(error_of([&] { ops_->matmul(site_, x_.view(), weight_.view(), weight_.view(), out_.view()); }),
              HasSubstr("bias 'w' is [6, 8]"));
  EXPECT_THAT(error_of([&] { ops_->rmsnorm(site_, x_.view(), weight_.view(), 1e-5, x_.view()); }), HasSubstr("weight 'w'"));
  EXPECT_THAT(error_of([&] { ops_->add(site_, x_.view(), narrow.view(), x_.view()); }), HasSubstr("second operand has 7"));
  const std::vector<std::int32_t> positions = {0, 1};
  EXPECT_THAT(error_of([&] {
                ops_->rope(site_, x_.view(), {10000.0, 3, 2, true, 1.0, {}}, positions, x_.view());
              }),
              HasSubstr("heads of 3"));
  EXPECT_THAT(error_of([&] {
                ops_->rope(site_, x_.view(), {10000.0, 4, 3, true, 1.0, {}}, positions, x_.view());
              }),
              HasSubstr("pairs"));
  EXPECT_THAT(error_of([&] {
                ops_->rope(site_, x_.view(), {-1.0, 4, 4, true, 1.0, {}}, positions, x_.view());
              }),
              HasSubstr("theta -1"));
  LooseKv kv(DType::f32, 9), nibbles(DType::q4_0, 32);
  EXPECT_THAT(error_of([&] { ops_->kv_write(site_, x_.view(), KvPart::k, kv); }), HasSubstr("x has 8 columns, 9"));
  EXPECT_THAT(error_of([&] { ops_->kv_write(site_, Tensor(DType::f32, 2, 32).view(), KvPart::k, nibbles); }),
              HasSubstr("KV of type q4_0"));
  EXPECT_THAT(error_of([&] { ops_->qk(site_, x_.view(), {4, 3, 2, 1.0}, kv, x_.view()); }), HasSubstr("evenly"));
  EXPECT_THAT(error_of([&] {
                ops_->softmax(site_, x_.view(), {4, 2, 2, 1.0}, x_.view());
              }),
              HasSubstr("row 0 of scores has 8 columns, 4 are needed"));
}

TEST_F(Misfit, AnInstructionSetThatTheMachineLacks) {
  for (const Isa isa : {Isa::avx2, Isa::avx512}) {
    if (isa <= best_isa()) continue;
    EXPECT_THROW((void)make_cpu_ops({.isa = isa, .pool = pool_}), Error);
  }
  EXPECT_NO_THROW((void)make_cpu_ops({.isa = best_isa(), .pool = pool_}));
}

TEST_F(Misfit, HandoffIsTheTensorItself) {
  const TensorView handed = ops_->handoff(site_, x_.view());
  EXPECT_EQ(handed.data, x_.view().data);
}

TEST_F(Misfit, BeginStepSetsTheRoutes) {
  const Tensor wide(DType::f64, 2, 8), wide_out(DType::f64, 2, 6);
  ops_->begin_step({}, select_routes("float64", {2}, {}));
  EXPECT_NO_THROW(ops_->matmul(site_, wide.view(), weight_.view(), {}, wide_out.view()));
  ops_->begin_step({}, select_routes("reference", {2}, {}));
  EXPECT_THROW(ops_->matmul(site_, wide.view(), weight_.view(), {}, wide_out.view()), Error);
}

}  // namespace
}  // namespace greta::test
