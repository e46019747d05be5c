// qk and pv on matrix cores (route `invariant`, K and V of 16 bits): near float64, and the same bits whoever is computed
// beside.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/gpu/attention_case.h"

namespace greta::gpu {
namespace {

class AttentionCores : public DeviceTest {};

std::vector<AttentionCase> cases() {
  std::vector<RowId> mixed;
  for (int i = 0; i < 40; ++i) mixed.push_back({i % 3, 9 + 4 * i});
  return {{14, 2, 48, DType::f16, test::rows_from(30, 3)},       {4, 2, 80, DType::bf16, test::rows_from(0, 35)},
          {7, 1, 33, DType::f16, {{1, 4}, {0, 133}, {2, 0}}, 6}, {4, 1, 64, DType::f16, mixed, 0, 20},
          {2, 1, 136, DType::bf16, {{0, 280}}, 0, 30},           {3, 3, 7, DType::bf16, mixed, 24},
          {2, 1, 128, DType::f16, test::rows_from(240, 70), 40}};
}

std::vector<float> floats(const std::vector<std::byte>& bytes) {
  std::vector<float> out(bytes.size() / 4);
  std::memcpy(out.data(), bytes.data(), out.size() * 4);
  return out;
}
/// A row's floats of a tensor's bytes.
std::span<const float> row_of(const std::vector<float>& all, const Tensor& shape, int r) {
  const TensorView& view = shape.view();
  return std::span(all).subspan(static_cast<std::size_t>((view.row(r) - view.data) / 4),
                                static_cast<std::size_t>(view.cols(r)));
}

/// The rows of a case alone.
AttentionCase only(const AttentionCase& c, const std::vector<int>& rows) {
  AttentionCase some = c;
  some.rows.clear();
  for (const int r : rows) some.rows.push_back(c.rows[static_cast<std::size_t>(r)]);
  return some;
}
Tensor only(const Tensor& from, Tensor to, const std::vector<int>& rows) {
  for (int i = 0; i < static_cast<int>(rows.size()); ++i) {
    for (std::int64_t k = 0; k < to.view().cols(i); ++k) to.set(i, k, from.get(rows[static_cast<std::size_t>(i)], k));
  }
  return to;
}
/// One by one, the last and the first together, a few, and all but the first few.
std::vector<std::vector<int>> subsets(int n) {
  std::vector<std::vector<int>> out{{0}, {n - 1}, {n - 1, 0}, {n / 2}};
  std::vector<int> few, rest;
  for (int r = 0; r < n; ++r) (r % 5 == 2 ? few : rest).push_back(r);
  if (!few.empty()) out.push_back(few);
  out.push_back(rest);
  return out;
}

/// Bits of `all`'s rows and of `some`'s, which are rows `which` of it: how many differ.
int different_rows(const std::vector<float>& all, const Tensor& all_shape, const std::vector<float>& some,
                   const Tensor& some_shape, const std::vector<int>& which) {
  int different = 0;
  for (int i = 0; i < static_cast<int>(which.size()); ++i) {
    const auto want = row_of(all, all_shape, which[static_cast<std::size_t>(i)]), got = row_of(some, some_shape, i);
    for (std::size_t k = 0; k < want.size(); ++k) {
      const bool both_nan = std::isnan(want[k]) && std::isnan(got[k]);
      if (!both_nan && std::memcmp(&want[k], &got[k], 4) != 0) ++different;
    }
  }
  return different;
}

struct Sum {
  double value = 0, size = 0;  // of the terms, and of their magnitudes
};
Sum score_sum(const AttentionCase& c, const Tensor& q, const TwinKv& kv, int r, int h, int j) {
  const RowId row = c.rows[static_cast<std::size_t>(r)];
  Sum sum;
  for (int d = 0; d < c.head_dim; ++d) {
    const double term = q.get(r, h * c.head_dim + d) *
                        static_cast<double>(kv.get({row.seq, j}, h / (c.n_heads / c.n_kv_heads) * c.head_dim + d));
    sum.value += term;
    sum.size += std::fabs(term);
  }
  return sum;
}

TEST_P(AttentionCores, ScoresNearFloat64) {
  std::mt19937_64 random(11);
  for (const AttentionCase& c : cases()) {
    TwinKv kv = c.cache(random);
    Tensor q = c.heads();
    q.fill_normal(random);
    for (int d = 0; d < c.head_dim; d += 3) q.set(0, d, q.get(0, d) * 0x1p-9);  // low terms matter
    const Tensor shape = c.scores();
    const AttentionParams p = c.params();
    under_schedules(emulated(), [&] {
      const std::vector<float> got = floats(run_qk(device(), c, q, kv, RouteId::invariant));
      int wrong = 0;
      for (int r = 0; r < c.n_rows(); ++r) {
        const auto row = row_of(got, shape, r);
        const int n = c.rows[static_cast<std::size_t>(r)].position + 1;
        for (int h = 0; h < c.n_heads; ++h) {
          for (int j = 0; j < n; ++j) {
            const double score = row[static_cast<std::size_t>(h * n + j)];
            if (j < p.first_key(n - 1)) {
              wrong += score == -kInf ? 0 : 1;
              continue;
            }
            const Sum sum = score_sum(c, q, kv, r, h, j);
            double want = sum.value * p.scale, bound = sum.size * p.scale * 0x1p-21;
            if (c.softcap > 0) {
              want = c.softcap * std::tanh(want / c.softcap);
              bound += 8 * 0x1p-24 * std::fabs(want);
            }
            wrong += std::fabs(score - want) <= bound ? 0 : 1;
          }
        }
      }
      EXPECT_EQ(wrong, 0) << testing::PrintToString(c);
    });
  }
}

TEST_P(AttentionCores, ScoresDoNotDependOnOtherRows) {
  std::mt19937_64 random(12);
  for (const AttentionCase& c : cases()) {
    TwinKv kv = c.cache(random);
    Tensor q = c.heads();
    q.fill_normal(random);
    q.set(c.n_rows() / 2, 1, kNan);
    q.set(0, 3, 1e6);
    const std::vector<float> all = floats(run_qk(device(), c, q, kv, RouteId::invariant));
    for (const std::vector<int>& rows : subsets(c.n_rows())) {
      const AttentionCase some = only(c, rows);
      const std::vector<float> got = floats(run_qk(device(), some, only(q, some.heads(), rows), kv, RouteId::invariant));
      EXPECT_EQ(different_rows(all, c.scores(), got, some.scores(), rows), 0)
          << testing::PrintToString(c) << ", " << rows.size() << " rows from " << rows[0];
    }
  }
}

/// Queries that cannot be split, and keys that are not finite.
TEST_P(AttentionCores, OddScores) {
  std::mt19937_64 random(13);
  for (const DType stored : {DType::f16, DType::bf16}) {
    for (const int n_rows : {4, 40}) {
      const AttentionCase c{2, 1, 48, stored, test::rows_from(20, n_rows)};
      TwinKv kv = c.cache(random);
      Tensor q = c.heads();
      q.fill_normal(random);
      const std::vector<float> healthy = floats(run_qk(device(), c, q, kv, RouteId::invariant));
      q.set(0, 5, 1e5);
      q.set(1, 48, kNan);
      q.set(2, 2, -kInf);
      q.set(2, 90, 3e38);
      kv.set({0, 7}, 3, static_cast<float>(kNan));
      kv.set({0, 9}, 4, static_cast<float>(kInf));
      const std::vector<float> got = floats(run_qk(device(), c, q, kv, RouteId::invariant));
      Tensor want = c.scores();
      cpu()->qk({Stage::attn_scores, 0, c.rows}, q.view(), c.params(), kv, want.view());
      const std::vector<float> expected = floats(want.bytes());
      const Tensor shape = c.scores();
      int changed = 0, wrong = 0;
      for (int r = 0; r < n_rows; ++r) {
        const int n = 21 + r;
        for (int k = 0; k < 2 * n; ++k) {
          const auto at = static_cast<std::size_t>(k);
          const float score = row_of(got, shape, r)[at], due = row_of(expected, shape, r)[at];
          const bool odd = k % n == 7 || k % n == 9 || (r == 0 && k < n) || (r == 1 && k >= n) || r == 2;
          if (!odd) changed += score == row_of(healthy, shape, r)[at] ? 0 : 1;
          // What F32 gives, or NaN where that is not finite either.
          const double bound = 1e-5 * (r == 2 ? 3e38 : r == 0 ? 1e5 : 10);
          wrong += std::isfinite(due)     ? std::fabs(static_cast<double>(score) - due) <= bound ? 0 : 1
                   : std::isfinite(score) ? 1
                                          : 0;
        }
      }
      EXPECT_EQ(changed, 0);
      EXPECT_EQ(wrong, 0);
      EXPECT_FALSE(std::isfinite(row_of(got, shape, 3)[9]));
    }
  }
}

TEST_P(AttentionCores, QkFaultNarrowPosition) {
  std::mt19937_64 random(2);
  const AttentionCase c{2, 1, 16, DType::f16, {{0, 257}, {0, 255}}};
  const TwinKv kv = c.cache(random);
  Tensor q = c.heads();
  q.fill_normal(random);
  const auto run = [&](KernelFault fault) { return run_qk(device(), c, q, kv, RouteId::invariant, fault); };
  EXPECT_EQ(count_different(run(KernelFault::none), run(KernelFault::narrow_position)), 2 * 256);  // keys 2..257
}

// --- pv ----------------------------------------------------------------------------------------------------------------------

TEST_P(AttentionCores, MixturesNearFloat64) {
  std::mt19937_64 random(14);
  for (const AttentionCase& c : cases()) {
    const TwinKv kv = c.cache(random);
    const Tensor probs = probabilities(c, random);
    under_schedules(emulated(), [&] {
      const std::vector<float> got = floats(run_pv(device(), c, probs, kv, RouteId::invariant));
      int wrong = 0;
      for (int r = 0; r < c.n_rows(); ++r) {
        const RowId row = c.rows[static_cast<std::size_t>(r)];
        const auto out = row_of(got, c.heads(), r);
        for (int e = 0; e < c.n_heads * c.head_dim; ++e) {
          Sum sum;
          for (int j = 0; j <= row.position; ++j) {
            const int h = e / c.head_dim, kv_element = h / (c.n_heads / c.n_kv_heads) * c.head_dim + e % c.head_dim;
            const double p = probs.get(r, h * (row.position + 1) + j);
            const double term = p == 0 ? 0 : p * static_cast<double>(kv.get({row.seq, j}, kv_element));
            sum.value += term;
            sum.size += std::fabs(term);
          }
          wrong += std::fabs(out[static_cast<std::size_t>(e)] - sum.value) <= sum.size * 0x1p-20 ? 0 : 1;
        }
      }
      EXPECT_EQ(wrong, 0) << testing::PrintToString(c);
    });
  }
}

/// Values that are not finite, where some rows see them and others do not; probabilities that cannot be split.
TEST_P(AttentionCores, MixturesDoNotDependOnOtherRows) {
  std::mt19937_64 random(15);
  for (const bool odd : {false, true}) {
    for (const AttentionCase& c : cases()) {
      TwinKv kv = c.cache(random);
      Tensor probs = probabilities(c, random);
      if (odd) {
        const RowId middle = c.rows[static_cast<std::size_t>(c.n_rows() / 2)];
        kv.set(middle, 1, static_cast<float>(kNan));
        kv.set(middle, 2, static_cast<float>(kInf));
        probs.set(0, 0, 3);
        probs.set(c.n_rows() - 1, c.rows.back().position, kNan);  // of head 0, its own key
      }
      const std::vector<float> all = floats(run_pv(device(), c, probs, kv, RouteId::invariant));
      for (const std::vector<int>& rows : subsets(c.n_rows())) {
        const AttentionCase some = only(c, rows);
        const Tensor own = only(probs, some.scores(), rows);
        const std::vector<float> got = floats(run_pv(device(), some, own, kv, RouteId::invariant));
        EXPECT_EQ(different_rows(all, c.heads(), got, some.heads(), rows), 0)
            << testing::PrintToString(c) << ", " << rows.size() << " rows from " << rows[0];
      }
    }
  }
}

/// What is not finite reaches exactly the elements that it reaches in F32, and nothing else changes.
TEST_P(AttentionCores, OddMixtures) {
  std::mt19937_64 random(16);
  for (const DType stored : {DType::f16, DType::bf16}) {
    for (const int n_rows : {3, 70}) {
      const AttentionCase c{4, 2, 48, stored, test::rows_from(258, n_rows), 100};
      TwinKv kv = c.cache(random);
      Tensor probs = probabilities(c, random);
      const std::vector<float> healthy = floats(run_pv(device(), c, probs, kv, RouteId::invariant));
      kv.set({0, 5}, 3, static_cast<float>(kNan));    // before every window
      kv.set({0, 259}, 7, static_cast<float>(kNan));  // not of row 0
      kv.set({0, 200}, 60, static_cast<float>(-kInf));
      probs.set(1, 2 * 260 + 259, 2.5);
      probs.set(2, 3 * 261 + 250, kNan);
      const std::vector<float> got = floats(run_pv(device(), c, probs, kv, RouteId::invariant));
      Tensor want = c.heads();
      cpu()->pv({Stage::attn_out, 0, c.rows}, probs.view(), c.params(), kv, want.view());
      int wrong = 0, changed = 0;
      for (int r = 0; r < n_rows; ++r) {
        for (int e = 0; e < 4 * 48; ++e) {
          const float out = row_of(got, c.heads(), r)[static_cast<std::size_t>(e)];
          const auto due = static_cast<float>(want.get(r, e));
          const bool touched = (r == 1 && e / 48 == 2) || (r == 2 && e / 48 == 3);
          if (!std::isfinite(due)) {
            wrong += std::isfinite(out) ? 1 : 0;
          } else if (touched) {
            wrong += std::fabs(out - due) <= 1e-5f ? 0 : 1;
          } else {
            changed += out == row_of(healthy, c.heads(), r)[static_cast<std::size_t>(e)] ? 0 : 1;
          }
        }
      }
      EXPECT_EQ(wrong, 0);
      EXPECT_EQ(changed, 0);
      EXPECT_TRUE(std::isfinite(row_of(got, c.heads(), 0)[7]));
      EXPECT_TRUE(std::isnan(row_of(got, c.heads(), 1)[7]));
    }
  }
}

GRETA_ON_ALL_DEVICES(AttentionCores);

}  // namespace
}  // namespace greta::gpu
