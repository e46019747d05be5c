// kv_shift on every arm and every type of cache, against a rotation written out in long double.
#include <gtest/gtest.h>

#include <cmath>
#include <random>
#include <vector>

#include "tests/ops/accuracy.h"
#include "tests/support/one_line_error.h"

namespace greta::test {
namespace {

struct ShiftCase {
  DType kv;
  int head_dim, n_rot, heads, delta;
  bool interleaved = true, factors = false;
  double linear_scale = 1.0;
  std::string label() const {
    return fmt::format("{}_hd{}_rot{}_heads{}_by{}{}{}{}", name(kv), head_dim, n_rot, heads, delta < 0 ? "minus" : "",
                       std::abs(delta), interleaved ? "" : "_halves", factors ? "_factors" : "");
  }
};

RopeParams turning(int head_dim, int n_rot) {
  RopeParams params;
  params.head_dim = head_dim;
  params.n_rot = n_rot;
  return params;
}

class KvShiftOp : public OnEveryArm<ShiftCase> {
 protected:
  static constexpr int kFirst = 20, kCount = 9, kLayer = 3;
  void fill(LooseKv& kv, std::mt19937_64& random) const {
    kv.fill_normal(KvPart::k, kLayer, 2, 60, random);
    kv.fill_normal(KvPart::v, kLayer, 2, 60, random);
  }
  /// Rows of both sequences, mixed, at their new positions.
  std::vector<RowId> destinations() const {
    std::vector<RowId> rows;
    for (int i = 0; i < kCount; ++i)
      for (int seq = 0; seq < 2; ++seq) rows.push_back({seq, kFirst + i + shape().delta});
    return rows;
  }
  std::vector<double> values(LooseKv& kv, KvPart part, RowId token) const {
    std::vector<double> out;
    for (std::int64_t i = 0; i < kv.width(); ++i) out.push_back(kv.get(part, kLayer, token, i));
    return out;
  }
};

TEST_P(KvShiftOp, TurnsKByTheShiftAndMovesV) {
  if (!arm().runs_here()) return;
  const ShiftCase& c = shape();
  std::mt19937_64 random(77);
  LooseKv kv(c.kv, c.heads * c.head_dim);
  fill(kv, random);
  std::vector<float> factors;
  for (int i = 0; c.factors && i < c.n_rot / 2; ++i) factors.push_back(1.0f + static_cast<float>(i) * 0.25f);
  const RopeParams rope{10000.0, c.head_dim, c.n_rot, c.interleaved, c.linear_scale, factors};
  LooseKv before = kv;
  const auto rows = destinations();
  ArmOps ops(arm());
  ops->kv_shift({Stage::k_cache, kLayer, rows}, {KvPart::k, c.delta, c.delta, rope}, kv);
  ops->kv_shift({Stage::v_cache, kLayer, rows}, {KvPart::v, c.delta, 0, rope}, kv);
  // What one value may lose: storage of the cache, and three roundings of the arm's arithmetic.
  const double storage = c.kv == DType::f64 ? 0x1p-53 : c.kv == DType::f32 ? 0x1p-24 : c.kv == DType::f16 ? 0x1p-11 : 0.6 / 127;
  const double arithmetic = arm().route == RouteId::reference ? 4 * 0x1p-24 : 0x1p-50;
  for (const RowId& row : rows) {
    const RowId from{row.seq, row.position - c.delta};
    EXPECT_EQ(values(kv, KvPart::v, row), values(before, KvPart::v, from));
    const auto was = values(before, KvPart::k, from), is = values(kv, KvPart::k, row);
    for (int h = 0; h < c.heads; ++h) {
      const int at = h * c.head_dim;
      double largest = 0;
      for (int i = 0; i < c.head_dim; ++i) largest = std::max(largest, 1.5 * std::abs(was[static_cast<std::size_t>(at + i)]));
      const double bound = largest * (storage + arithmetic);
      for (int i = c.n_rot; i < c.head_dim; ++i)
        EXPECT_NEAR(is[static_cast<std::size_t>(at + i)], was[static_cast<std::size_t>(at + i)], bound);
      for (int i = 0; i < c.n_rot / 2; ++i) {
        const auto a = static_cast<std::size_t>(at + (c.interleaved ? 2 * i : i));
        const auto b = static_cast<std::size_t>(at + (c.interleaved ? 2 * i + 1 : i + c.n_rot / 2));
        const Real angle = static_cast<Real>(c.delta) * std::pow(10000.0L, -2 * static_cast<Real>(i) / c.n_rot) /
                           static_cast<Real>(c.linear_scale) /
                           static_cast<Real>(c.factors ? factors[static_cast<std::size_t>(i)] : 1.0f);
        EXPECT_NEAR(is[a], static_cast<double>(was[a] * std::cos(angle) - was[b] * std::sin(angle)), bound) << "element " << a;
        EXPECT_NEAR(is[b], static_cast<double>(was[b] * std::cos(angle) + was[a] * std::sin(angle)), bound) << "element " << b;
      }
    }
  }
  for (int seq = 0; seq < 2; ++seq)
    for (int p = 0; p < 60; ++p)
      if (p < kFirst + c.delta || p >= kFirst + c.delta + kCount) {
        EXPECT_EQ(values(kv, KvPart::k, {seq, p}), values(before, KvPart::k, {seq, p})) << "a slot beside the range changed";
      }
}

/// A slot that moves without turning is copied: storing it anew could round it again.
TEST_P(KvShiftOp, WithoutATurnEveryBitStays) {
  if (!arm().runs_here()) return;
  std::mt19937_64 random(78);
  LooseKv kv(shape().kv, shape().heads * shape().head_dim);
  fill(kv, random);
  LooseKv before = kv;
  const auto rows = destinations();
  ArmOps(arm())->kv_shift({Stage::k_cache, kLayer, rows},
                          {KvPart::k, shape().delta, 0, turning(shape().head_dim, shape().n_rot)}, kv);
  for (const RowId& row : rows)
    EXPECT_EQ(values(kv, KvPart::k, row), values(before, KvPart::k, {row.seq, row.position - shape().delta}));
}

INSTANTIATE_TEST_SUITE_P(
    Ops, KvShiftOp,
    testing::Combine(testing::Values(ShiftCase{DType::f64, 16, 16, 2, -3}, ShiftCase{DType::f32, 48, 48, 1, -20},
                                     ShiftCase{DType::f32, 80, 32, 2, 4, false}, ShiftCase{DType::f16, 8, 8, 3, 30},
                                     ShiftCase{DType::f32, 64, 64, 2, -7, true, true}, ShiftCase{DType::q8_0, 32, 32, 3, -5},
                                     ShiftCase{DType::q8_0, 96, 96, 1, 1, false, false, 4.0}),
                     testing::ValuesIn(all_arms())),
    LabelOf());

TEST(KvShiftBadInput, IsRefusedInOneLine) {
  ArmOps ops(all_arms().front());
  LooseKv kv(DType::f32, 16), odd(DType::q8_0, 48);
  const std::vector<RowId> rows = {{0, 2}};
  const RopeParams rope = turning(8, 8);
  expect_error(
      [&] {
        ops->kv_shift({Stage::k_cache, 0, rows}, {KvPart::k, 3, 3, rope}, kv);
      },
      {"kv_shift", "position 2", "by 3"});
  expect_error([&] { ops->kv_shift({Stage::k_cache, 0, rows}, {KvPart::k, -3, -3, turning(5, 4)}, kv); }, {"no heads of 5"});
  expect_error([&] { ops->kv_shift({Stage::k_cache, 0, rows}, {KvPart::k, -3, -3, rope}, odd); }, {"48", "blocks of 32"});
}

}  // namespace
}  // namespace greta::test
