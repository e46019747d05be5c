// Every op but attention against the formula, evaluated in long double by plain loops, on every route and instruction set.
#include "tests/ops/accuracy.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/half.h"

namespace greta::test {
namespace {

// --- matmul, embed -----------------------------------------------------------------------------------------------------------

struct MatmulCase {
  DType dtype;
  std::int64_t n_in, n_out, n_rows;
  bool bias = false, transposed = false;
  std::string label() const {
    return fmt::format("{}_in{}_out{}_rows{}{}{}", name(dtype), n_in, n_out, n_rows, bias ? "_bias" : "",
                       transposed ? "_transposed" : "");
  }
};
class Matmul : public OnEveryArm<MatmulCase> {};

TEST_P(Matmul, IsTheSumOfProducts) {
  if (!arm().runs_here()) return;
  const MatmulCase& c = shape();
  std::mt19937_64 random(7);
  const Weight weight(c.dtype, c.n_out, c.n_in, random);
  const Weight bias(DType::f32, 1, c.n_out, random);
  Tensor x(arm().activations, c.n_rows, c.n_in), out(arm().activations, c.n_rows, c.n_out);
  x.fill_normal(random);
  const std::vector<RowId> rows = rows_from(0, c.n_rows);
  ArmOps(arm())->matmul({Stage::q, 0, rows}, x.view(), c.transposed ? weight.transposed() : weight.view(),
                        c.bias ? bias.view() : WeightView{}, out.view());
  for (std::int64_t r = 0; r < c.n_rows; ++r) {
    for (std::int64_t o = 0; o < c.n_out; ++o) {
      Real want = 0, magnitude = 0;
      for (std::int64_t i = 0; i < c.n_in; ++i) {
        const Real w = static_cast<Real>(c.transposed ? weight.flat(i * c.n_out + o) : weight.value(o, i));
        want += static_cast<Real>(x.get(r, i)) * w;
        magnitude += std::fabs(static_cast<Real>(x.get(r, i)) * w);
      }
      if (c.bias) want += static_cast<Real>(bias.flat(o));
      if (c.bias) magnitude += std::fabs(static_cast<Real>(bias.flat(o)));
      expect_close(out, r, o, want, unit(arm()) * (sum_depth(arm(), c.n_in) + 1) * magnitude + stored(arm(), want));
    }
  }
}
INSTANTIATE_TEST_SUITE_P(
    Ops, Matmul,
    testing::Combine(testing::Values(MatmulCase{DType::f32, 64, 16, 1}, MatmulCase{DType::f32, 1, 1, 1},
                                     MatmulCase{DType::f32, 77, 13, 3, true}, MatmulCase{DType::f32, 300, 37, 33, true},
                                     MatmulCase{DType::f16, 50, 9, 1}, MatmulCase{DType::f16, 48, 21, 19, true},
                                     MatmulCase{DType::bf16, 33, 10, 2}, MatmulCase{DType::bf16, 128, 6, 40},
                                     MatmulCase{DType::q8_0, 288, 11, 1, true}, MatmulCase{DType::q8_0, 96, 34, 21},
                                     MatmulCase{DType::q4_0, 64, 5, 1}, MatmulCase{DType::q4_0, 160, 18, 14, true},
                                     MatmulCase{DType::f32, 20, 12, 3, false, true},
                                     MatmulCase{DType::f16, 17, 17, 9, true, true},
                                     MatmulCase{DType::q8_0, 64, 24, 2, false, true},
                                     MatmulCase{DType::q4_0, 32, 40, 11, false, true}),
                     testing::ValuesIn(all_arms())),
    LabelOf());

class Embed : public OnEveryArm<MatmulCase> {};
TEST_P(Embed, IsTheRowOfTheTable) {
  if (!arm().runs_here()) return;
  const MatmulCase& c = shape();
  std::mt19937_64 random(3);
  const Weight table(c.dtype, c.n_out, c.n_in, random);
  Tensor out(arm().activations, 3, c.n_in);
  const std::vector<std::int32_t> tokens = {static_cast<std::int32_t>(c.n_out) - 1, 0, 2};
  const std::vector<RowId> rows = rows_from(5, 3);
  ArmOps(arm())->embed({Stage::x_in, 0, rows}, table.view(), tokens, out.view());
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t i = 0; i < c.n_in; ++i) {
      EXPECT_EQ(out.get(r, i), table.value(tokens[static_cast<std::size_t>(r)], i)) << r << ' ' << i;
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Ops, Embed,
                         testing::Combine(testing::Values(MatmulCase{DType::f32, 5, 7, 3}, MatmulCase{DType::f16, 18, 7, 3},
                                                          MatmulCase{DType::bf16, 16, 4, 3}, MatmulCase{DType::q8_0, 64, 9, 3},
                                                          MatmulCase{DType::q4_0, 32, 3, 3}),
                                          testing::ValuesIn(all_arms())),
                         LabelOf());

// --- rmsnorm -----------------------------------------------------------------------------------------------------------------

struct NormCase {
  std::int64_t n_cols, n_rows;
  double eps;
  double scale = 1;
  DType weight = DType::f32;
  std::string label() const {
    return fmt::format("cols{}_rows{}_eps1em{}_scale1em{}_{}", n_cols, n_rows, -std::lround(std::log10(eps)),
                       -std::lround(std::log10(scale)), name(weight));
  }
};
class RmsNorm : public OnEveryArm<NormCase> {};
TEST_P(RmsNorm, DividesByTheRootMeanSquare) {
  if (!arm().runs_here()) return;
  const NormCase& c = shape();
  std::mt19937_64 random(11);
  const Weight weight(c.weight, 1, c.n_cols, random);
  Tensor x(arm().activations, c.n_rows, c.n_cols), out(arm().activations, c.n_rows, c.n_cols);
  x.fill_normal(random, c.scale);
  const std::vector<RowId> rows = rows_from(0, c.n_rows);
  ArmOps(arm())->rmsnorm({Stage::attn_norm, 0, rows}, x.view(), weight.view(), c.eps, out.view());
  for (std::int64_t r = 0; r < c.n_rows; ++r) {
    Real squares = 0;
    for (std::int64_t i = 0; i < c.n_cols; ++i) squares += static_cast<Real>(x.get(r, i)) * static_cast<Real>(x.get(r, i));
    const Real root = std::sqrt(squares / static_cast<Real>(c.n_cols) + static_cast<Real>(c.eps));
    for (std::int64_t i = 0; i < c.n_cols; ++i) {
      const Real want = static_cast<Real>(x.get(r, i)) / root * static_cast<Real>(weight.flat(i));
      // Half the sum's relative error (the root halves it) and at most 6 roundings: mean, eps, its sum, root, quotient, two
      // products.
      expect_close(out, r, i, want, unit(arm()) * (sum_depth(arm(), c.n_cols) / 2 + 6) * std::fabs(want) + stored(arm(), want));
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Ops, RmsNorm,
                         testing::Combine(testing::Values(NormCase{64, 1, 1e-5}, NormCase{288, 5, 1e-6}, NormCase{1, 2, 1e-5},
                                                          NormCase{77, 3, 1e-5, 1e-3}, NormCase{48, 20, 1e-5, 1, DType::f16},
                                                          NormCase{32, 2, 1e-12, 1e-8, DType::bf16}),
                                          testing::ValuesIn(all_arms())),
                         LabelOf());

// --- rope --------------------------------------------------------------------------------------------------------------------

struct RopeCase {
  int head_dim, n_rot, heads, first_position;
  bool interleaved;
  double theta = 10000.0, linear_scale = 1.0;
  bool factors = false;
  std::string label() const {
    return fmt::format("hd{}_rot{}_heads{}_at{}_{}_theta{}_scale{}{}", head_dim, n_rot, heads, first_position,
                       interleaved ? "pairs" : "halves", std::lround(theta), std::lround(linear_scale),
                       factors ? "_factors" : "");
  }
};
class Rope : public OnEveryArm<RopeCase> {};
TEST_P(Rope, TurnsPairsByPosition) {
  if (!arm().runs_here()) return;
  const RopeCase& c = shape();
  std::mt19937_64 random(5);
  std::vector<float> factors;
  for (int i = 0; c.factors && i < c.n_rot / 2; ++i) factors.push_back(1.0f + static_cast<float>(i) * 0.25f);
  const RopeParams params{c.theta, c.head_dim, c.n_rot, c.interleaved, c.linear_scale, factors};
  const std::int64_t n_cols = c.heads * c.head_dim;
  Tensor x(arm().activations, 4, n_cols), out(arm().activations, 4, n_cols);
  x.fill_normal(random);
  const std::vector<RowId> rows = rows_from(9000, 4);  // not where it is told to turn to
  const std::vector<std::int32_t> positions = {c.first_position, c.first_position + 1, 0, c.first_position + 77};
  ArmOps(arm())->rope({Stage::q_rope, 0, rows}, x.view(), params, positions, out.view());
  for (std::int64_t r = 0; r < 4; ++r) {
    for (std::int64_t h = 0; h < n_cols; h += c.head_dim) {
      for (int i = c.n_rot; i < c.head_dim; ++i) EXPECT_EQ(out.get(r, h + i), x.get(r, h + i));
      for (int i = 0; i < c.n_rot / 2; ++i) {
        const std::int64_t at_a = h + (c.interleaved ? 2 * i : i), at_b = h + (c.interleaved ? 2 * i + 1 : i + c.n_rot / 2);
        const Real frequency = std::pow(static_cast<Real>(c.theta), -2 * static_cast<Real>(i) / c.n_rot) /
                               static_cast<Real>(c.linear_scale) /
                               static_cast<Real>(c.factors ? factors[static_cast<std::size_t>(i)] : 1.0f);
        const Real angle = static_cast<Real>(positions[static_cast<std::size_t>(r)]) * frequency;
        const Real a = static_cast<Real>(x.get(r, at_a)), b = static_cast<Real>(x.get(r, at_b));
        // The angle is a double: two roundings of it, and one of each factor, product and sum.
        const Real bound = (std::fabs(a) + std::fabs(b)) * (std::fabs(angle) * 0x1p-52L + 3 * unit(arm()) + 3 * 0x1p-53L);
        const Real want_a = a * std::cos(angle) - b * std::sin(angle), want_b = b * std::cos(angle) + a * std::sin(angle);
        expect_close(out, r, at_a, want_a, bound + stored(arm(), want_a));
        expect_close(out, r, at_b, want_b, bound + stored(arm(), want_b));
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Ops, Rope,
                         testing::Combine(testing::Values(RopeCase{64, 64, 3, 1, true}, RopeCase{48, 48, 1, 1000, true},
                                                          RopeCase{80, 32, 2, 17, false}, RopeCase{8, 8, 8, 40, true},
                                                          RopeCase{128, 128, 1, 131072, false, 500000.0, 1.0, true},
                                                          RopeCase{128, 128, 1, 1000000, true, 500000.0},
                                                          RopeCase{64, 64, 1, 500, true, 10000.0, 4.0},
                                                          RopeCase{6, 0, 1, 3, true}),
                                          testing::ValuesIn(all_arms())),
                         LabelOf());

// --- elementwise -------------------------------------------------------------------------------------------------------------

struct ZipCase {
  std::int64_t n_rows, n_cols;
  double scale;
  std::string label() const { return fmt::format("rows{}_cols{}_scale{}", n_rows, n_cols, std::lround(scale)); }
};
class Elementwise : public OnEveryArm<ZipCase> {};
TEST_P(Elementwise, AddRoundsOnce) {
  if (!arm().runs_here()) return;
  std::mt19937_64 random(29);
  Tensor a(arm().activations, shape().n_rows, shape().n_cols), b(arm().activations, shape().n_rows, shape().n_cols),
      out(arm().activations, shape().n_rows, shape().n_cols);
  a.fill_normal(random, shape().scale);
  b.fill_normal(random, 1);
  const std::vector<RowId> rows = rows_from(0, shape().n_rows);
  ArmOps(arm())->add({Stage::x_after_attn, 0, rows}, a.view(), b.view(), out.view());
  for (std::int64_t r = 0; r < shape().n_rows; ++r) {
    for (std::int64_t i = 0; i < shape().n_cols; ++i) {
      const double sum = a.get(r, i) + b.get(r, i);  // of two floats: exact enough that a second rounding changes nothing
      EXPECT_EQ(out.get(r, i), arm().activations == DType::f32 ? static_cast<double>(static_cast<float>(sum)) : sum);
    }
  }
}
TEST_P(Elementwise, SiluTimesUp) {
  if (!arm().runs_here()) return;
  std::mt19937_64 random(31);
  Tensor gate(arm().activations, shape().n_rows, shape().n_cols), up(arm().activations, shape().n_rows, shape().n_cols),
      out(arm().activations, shape().n_rows, shape().n_cols);
  gate.fill_normal(random, shape().scale);
  up.fill_normal(random, 1);
  const std::vector<RowId> rows = rows_from(0, shape().n_rows);
  ArmOps(arm())->silu_mul({Stage::ffn_act, 0, rows}, gate.view(), up.view(), out.view());
  for (std::int64_t r = 0; r < shape().n_rows; ++r) {
    for (std::int64_t i = 0; i < shape().n_cols; ++i) {
      const Real g = static_cast<Real>(gate.get(r, i));
      const Real want = g / (1 + std::exp(-g)) * static_cast<Real>(up.get(r, i));
      // exp errs by 1 ULP = 2 u, then a sum, a quotient and a product. Below the range of exp(-g) in F32 the answer is a signed
      // zero.
      expect_close(out, r, i, want, unit(arm()) * 6 * std::fabs(want) + stored(arm(), want) + (g < -87 ? 1e-36L : 0));
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Ops, Elementwise,
                         testing::Combine(testing::Values(ZipCase{1, 64, 1}, ZipCase{3, 77, 8}, ZipCase{40, 5, 60},
                                                          ZipCase{2, 5000, 2}),
                                          testing::ValuesIn(all_arms())),
                         LabelOf());

// --- kv_write ----------------------------------------------------------------------------------------------------------------

struct StoreCase {
  DType kv;
  std::string label() const { return std::string(name(kv)); }
};
class KvWrite : public OnEveryArm<StoreCase> {};
TEST_P(KvWrite, StoresTheNearestValueInTheTokensSlot) {
  if (!arm().runs_here()) return;
  std::mt19937_64 random(37);
  constexpr std::int64_t kWidth = 37;
  LooseKv kv(shape().kv, kWidth);
  Tensor x(arm().activations, 3, kWidth);
  x.fill_normal(random, 3);
  x.set(0, 0, 1.0 + 0x1p-11);  // a tie of binary16: to even, 1
  x.set(0, 1, 1.0 + 3 * 0x1p-11);
  x.set(0, 2, 1e9);
  x.set(0, 3, 3e-8);
  x.set(0, 4, -0.0);
  const std::vector<RowId> rows = {{0, 9}, {2, 4}, {0, 3}};
  ArmOps(arm())->kv_write({Stage::v_cache, 1, rows}, x.view(), KvPart::v, kv);
  for (std::int64_t r = 0; r < 3; ++r) {
    for (std::int64_t i = 0; i < kWidth; ++i) {
      const double value = x.get(r, i), got = kv.get(KvPart::v, 1, rows[static_cast<std::size_t>(r)], i);
      if (shape().kv == DType::f64 || arm().activations == shape().kv) {
        EXPECT_EQ(got, value);
      } else if (shape().kv == DType::f32) {
        EXPECT_EQ(got, static_cast<double>(static_cast<float>(value)));
      } else if (std::fabs(value) >= 65520) {
        EXPECT_EQ(got, std::copysign(std::numeric_limits<double>::infinity(), value));
      } else {
        const std::uint16_t bits = f32_to_f16(static_cast<float>(got));
        for (const int step : {-1, 1}) {
          if ((bits & 0x7fff) == 0 && step < 0) continue;
          const double other = static_cast<double>(f16_to_f32(static_cast<std::uint16_t>(bits + step)));
          EXPECT_LE(std::fabs(got - value), std::fabs(other - value)) << value;
          if (std::fabs(got - value) == std::fabs(other - value)) {
            EXPECT_EQ(bits & 1, 0) << value;
          }
        }
      }
    }
  }
}
class KvWriteQ8_0 : public OnEveryArm<StoreCase> {};
/// The format's definition: d = max|x| / 127 in F32, codes x * (1 / d) rounded half away from zero, d then rounded to binary16.
TEST_P(KvWriteQ8_0, StoresBlocksByTheFormatsDefinition) {
  if (!arm().runs_here()) return;
  std::mt19937_64 random(38);
  constexpr std::int64_t kWidth = 96;
  LooseKv kv(DType::q8_0, kWidth);
  Tensor x(arm().activations, 2, kWidth);
  x.fill_normal(random, 3);
  for (int i = 0; i < 32; ++i) x.set(0, 32 + i, 0);  // zeros
  for (int i = 0; i < 32; ++i) x.set(1, i, 1e-42);   // too small for 1 / d
  x.set(1, 40, std::numeric_limits<double>::infinity());
  x.set(1, 70, std::numeric_limits<double>::quiet_NaN());
  const std::vector<RowId> rows = {{0, 9}, {2, 4}};
  ArmOps(arm())->kv_write({Stage::k_cache, 1, rows}, x.view(), KvPart::k, kv);
  for (std::int64_t r = 0; r < 2; ++r) {
    for (std::int64_t b = 0; b < kWidth; b += 32) {
      float largest = 0;
      for (int i = 0; i < 32; ++i) largest = std::max(largest, std::fabs(static_cast<float>(x.get(r, b + i))));
      const float d = largest / 127.0f;
      for (std::int64_t i = b; i < b + 32; ++i) {
        const double got = kv.get(KvPart::k, 1, rows[static_cast<std::size_t>(r)], i);
        if (r == 1 && b > 0) {
          EXPECT_TRUE(std::isnan(got)) << "element " << i << " of a block that is not finite";
        } else if (r == 1 || b == 32) {
          EXPECT_EQ(got, 0) << i;
        } else {
          const double code = std::round(static_cast<float>(x.get(r, i)) * (1.0f / d));
          EXPECT_EQ(got, code * static_cast<double>(f16_to_f32(f32_to_f16(d)))) << i;
        }
      }
    }
  }
}
INSTANTIATE_TEST_SUITE_P(Ops, KvWriteQ8_0,
                         testing::Combine(testing::Values(StoreCase{DType::q8_0}), testing::ValuesIn(all_arms())), LabelOf());

INSTANTIATE_TEST_SUITE_P(Ops, KvWrite,
                         testing::Combine(testing::Values(StoreCase{DType::f64}, StoreCase{DType::f32}, StoreCase{DType::f16}),
                                          testing::ValuesIn(all_arms())),
                         LabelOf());

}  // namespace
}  // namespace greta::test
