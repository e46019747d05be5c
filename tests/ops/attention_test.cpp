// Attention's three ops against the formula, evaluated in long double by plain loops, on every route and instruction set.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/half.h"
#include "tests/ops/accuracy.h"

namespace greta::test {
namespace {

// --- attention ---------------------------------------------------------------------------------------------------------------

struct AttentionCase {
  int n_heads, n_kv_heads, head_dim;
  DType kv;
  std::vector<RowId> rows;
  std::string rows_label;
  std::string label() const { return fmt::format("h{}_kv{}_hd{}_{}_{}", n_heads, n_kv_heads, head_dim, name(kv), rows_label); }
  AttentionParams params() const { return {n_heads, n_kv_heads, head_dim, 1 / std::sqrt(static_cast<double>(head_dim))}; }
  std::vector<std::int64_t> score_cols() const {
    std::vector<std::int64_t> cols;
    for (const RowId& row : rows) cols.push_back(std::int64_t{n_heads} * (row.position + 1));
    return cols;
  }
};
std::vector<AttentionCase> attention_cases() {
  return {{4, 4, 16, DType::f32, rows_from(0, 5), "first5"},
          {8, 2, 48, DType::f16, rows_from(30, 3), "from30"},
          {6, 1, 80, DType::f64, rows_from(0, 19), "first19"},
          {3, 3, 7, DType::f32, {{1, 4}, {0, 33}, {1, 5}, {2, 0}}, "threesequences"},
          {4, 2, 64, DType::f16, {{0, 129}}, "only129"},
          {7, 1, 32, DType::q8_0, rows_from(0, 6), "first6"},
          {6, 3, 96, DType::q8_0, {{1, 4}, {0, 33}, {1, 5}, {2, 0}}, "threesequences"}};
}
class Attention : public OnEveryArm<AttentionCase> {};

TEST_P(Attention, ScoresAreScaledDotProducts) {
  if (!arm().runs_here()) return;
  const AttentionCase& c = shape();
  std::mt19937_64 random(13);
  LooseKv kv(c.kv, c.n_kv_heads * c.head_dim);
  kv.fill_normal(KvPart::k, 2, 3, 150, random);
  const auto n_rows = static_cast<std::int64_t>(c.rows.size());
  Tensor q(arm().activations, n_rows, c.n_heads * c.head_dim), out(arm().activations, c.score_cols());
  q.fill_normal(random);
  ArmOps(arm())->qk({Stage::attn_scores, 2, c.rows}, q.view(), c.params(), kv, out.view());
  const Real narrowing = arm().route == RouteId::reference && c.kv == DType::f64 ? 1 : 0;  // F64 keys round to F32
  for (std::int64_t r = 0; r < n_rows; ++r) {
    const RowId row = c.rows[static_cast<std::size_t>(r)];
    for (int h = 0; h < c.n_heads; ++h) {
      for (int j = 0; j <= row.position; ++j) {
        Real want = 0, magnitude = 0;
        for (int d = 0; d < c.head_dim; ++d) {
          const Real key =
              static_cast<Real>(kv.get(KvPart::k, 2, {row.seq, j}, h / (c.n_heads / c.n_kv_heads) * c.head_dim + d));
          want += static_cast<Real>(q.get(r, h * c.head_dim + d)) * key;
          magnitude += std::fabs(static_cast<Real>(q.get(r, h * c.head_dim + d)) * key);
        }
        const Real scale = static_cast<Real>(c.params().scale);
        expect_close(
            out, r, h * (row.position + 1) + j, want * scale,
            scale * magnitude * unit(arm()) * (sum_depth(arm(), c.head_dim) + 2 + narrowing) + stored(arm(), want * scale));
      }
    }
  }
}

TEST_P(Attention, SoftmaxOfEveryHead) {
  if (!arm().runs_here()) return;
  const AttentionCase& c = shape();
  std::mt19937_64 random(17);
  Tensor scores(arm().activations, c.score_cols()), out(arm().activations, c.score_cols());
  scores.fill_normal(random, 4);
  ArmOps(arm())->softmax({Stage::attn_probs, 2, c.rows}, scores.view(), c.params(), out.view());
  for (std::int64_t r = 0; r < scores.view().n_rows; ++r) {
    const std::int64_t n = c.rows[static_cast<std::size_t>(r)].position + 1;
    for (std::int64_t h = 0; h < c.n_heads; ++h) {
      Real top = static_cast<Real>(scores.get(r, h * n)), sum = 0;
      for (std::int64_t j = 0; j < n; ++j) top = std::max(top, static_cast<Real>(scores.get(r, h * n + j)));
      for (std::int64_t j = 0; j < n; ++j) sum += std::exp(static_cast<Real>(scores.get(r, h * n + j)) - top);
      for (std::int64_t j = 0; j < n; ++j) {
        const Real shifted = static_cast<Real>(scores.get(r, h * n + j)) - top;
        const Real want = std::exp(shifted) / sum;
        // The difference's rounding moves exp by its own size; exp errs by 2 u, in the terms and in their sum; then the sum and
        // the quotient.
        const Real bound = unit(arm()) * want * (2 * std::fabs(shifted) + 20 + 5 + sum_depth(arm(), n));
        expect_close(out, r, h * n + j, want, bound + stored(arm(), want));
      }
    }
  }
}

TEST_P(Attention, MixesValues) {
  if (!arm().runs_here()) return;
  const AttentionCase& c = shape();
  std::mt19937_64 random(19);
  LooseKv kv(c.kv, c.n_kv_heads * c.head_dim);
  kv.fill_normal(KvPart::v, 0, 3, 150, random);
  Tensor probs(arm().activations, c.score_cols());
  Tensor out(arm().activations, static_cast<std::int64_t>(c.rows.size()), c.n_heads * c.head_dim);
  probs.fill_normal(random);
  ArmOps(arm())->pv({Stage::attn_out, 0, c.rows}, probs.view(), c.params(), kv, out.view());
  for (std::int64_t r = 0; r < out.view().n_rows; ++r) {
    const RowId row = c.rows[static_cast<std::size_t>(r)];
    const std::int64_t n = row.position + 1;
    for (int h = 0; h < c.n_heads; ++h) {
      for (int d = 0; d < c.head_dim; ++d) {
        Real want = 0, magnitude = 0;
        for (int j = 0; j < n; ++j) {
          const Real value =
              static_cast<Real>(kv.get(KvPart::v, 0, {row.seq, j}, h / (c.n_heads / c.n_kv_heads) * c.head_dim + d));
          want += static_cast<Real>(probs.get(r, h * n + j)) * value;
          magnitude += std::fabs(static_cast<Real>(probs.get(r, h * n + j)) * value);
        }
        expect_close(out, r, h * c.head_dim + d, want,
                     unit(arm()) * static_cast<Real>(n + 2) * magnitude + stored(arm(), want));
      }
    }
  }
}

TEST_P(Attention, ReadsEverySlotOnceAndNoLaterOne) {
  if (!arm().runs_here()) return;
  const AttentionCase& c = shape();
  std::mt19937_64 random(23);
  LooseKv kv(c.kv, c.n_kv_heads * c.head_dim);
  kv.fill_normal(KvPart::k, 0, 3, 150, random);
  Tensor q(arm().activations, static_cast<std::int64_t>(c.rows.size()), c.n_heads * c.head_dim),
      out(arm().activations, c.score_cols());
  q.fill_normal(random);
  ArmOps(arm())->qk({Stage::attn_scores, 0, c.rows}, q.view(), c.params(), kv, out.view());
  std::map<std::int32_t, std::int32_t> last;
  for (const RowId& row : c.rows) last[row.seq] = std::max(last[row.seq], row.position);
  std::size_t expected = 0;
  for (const auto& [seq, position] : last) expected += static_cast<std::size_t>(position) + 1;
  EXPECT_EQ(kv.reads.size(), expected);
  for (const auto& [slot, count] : kv.reads) {
    EXPECT_EQ(count, 1);
    EXPECT_LE(std::get<2>(slot), last.at(std::get<1>(slot)));
  }
}
INSTANTIATE_TEST_SUITE_P(Ops, Attention, testing::Combine(testing::ValuesIn(attention_cases()), testing::ValuesIn(all_arms())),
                         LabelOf());

}  // namespace
}  // namespace greta::test
