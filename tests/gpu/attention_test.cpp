// qk and pv bit for bit as the CPU's reference route; pv of route `invariant` over F32 as its definition says; their faults.
#include <gtest/gtest.h>

#include <cmath>

#include "tests/gpu/attention_case.h"

namespace greta::gpu {
namespace {

class AttentionKernels : public DeviceTest {};

std::vector<AttentionCase> attention_cases() {
  const std::vector<RowId> mixed{{1, 4}, {0, 33}, {1, 5}, {2, 0}, {2, 40}};
  std::vector<RowId> many_mixed = test::rows_from(3, 20);
  for (int i = 0; i < 8; ++i) many_mixed.push_back({2 + i % 3, 7 * i});
  return {{4, 4, 16, DType::f32, test::rows_from(0, 5)},
          {14, 2, 48, DType::f16, test::rows_from(30, 3)},
          {4, 2, 80, DType::bf16, test::rows_from(0, 33)},
          {3, 3, 7, DType::f32, mixed},
          {4, 1, 64, DType::f16, many_mixed},
          {9, 1, 33, DType::f16, mixed, 6, 20},
          {4, 2, 64, DType::f16, test::rows_from(0, 70), 24},
          {2, 1, 136, DType::bf16, {{0, 129}}, 0, 30},
          {2, 2, 16, DType::f32, test::rows_from(20, 18), 5, 50}};
}

// --- qk ----------------------------------------------------------------------------------------------------------------------

TEST_P(AttentionKernels, ScoresOfTheCpu) {
  std::mt19937_64 random(1);
  for (const AttentionCase& c : attention_cases()) {
    TwinKv kv = c.cache(random);
    Tensor q = c.heads(), want = c.scores();
    q.fill_normal(random);
    cpu()->qk({Stage::attn_scores, 0, c.rows}, q.view(), c.params(), kv, want.view());
    under_schedules(emulated(),
                    [&] { EXPECT_EQ(count_different(want, run_qk(device(), c, q, kv)), 0) << testing::PrintToString(c); });
  }
}

TEST_P(AttentionKernels, QkFaultNarrowPosition) {
  std::mt19937_64 random(2);
  const AttentionCase c{2, 1, 16, DType::f16, {{0, 257}, {0, 255}}};
  TwinKv kv = c.cache(random);
  Tensor q = c.heads(), want = c.scores();
  q.fill_normal(random);
  cpu()->qk({Stage::attn_scores, 0, c.rows}, q.view(), c.params(), kv, want.view());
  EXPECT_EQ(count_different(want, run_qk(device(), c, q, kv)), 0);
  EXPECT_EQ(count_different(want, run_qk(device(), c, q, kv, RouteId::reference, KernelFault::narrow_position)),
            2 * 256);  // keys 2..257
}

// --- pv ----------------------------------------------------------------------------------------------------------------------

TEST_P(AttentionKernels, MixturesOfTheCpu) {
  std::mt19937_64 random(3);
  for (const AttentionCase& c : attention_cases()) {
    TwinKv kv = c.cache(random);
    const Tensor probs = probabilities(c, random);
    Tensor want = c.heads();
    cpu()->pv({Stage::attn_out, 0, c.rows}, probs.view(), c.params(), kv, want.view());
    under_schedules(emulated(), [&] {
      EXPECT_EQ(count_different(want, run_pv(device(), c, probs, kv, RouteId::reference)), 0) << testing::PrintToString(c);
      // Up to one split the routes are the same where V is F32.
      if (c.stored == DType::f32) {
        EXPECT_EQ(count_different(want, run_pv(device(), c, probs, kv, RouteId::invariant)), 0) << testing::PrintToString(c);
      }
    });
  }
}

/// What stands before the window is passed over up to the first probability that is not 0, whatever the values there are.
TEST_P(AttentionKernels, KeysBeforeTheWindow) {
  std::mt19937_64 random(4);
  for (const int n : {3, 70}) {
    const AttentionCase c{2, 1, 32, DType::f16, test::rows_from(80, n), 16};
    TwinKv kv = c.cache(random);
    for (int i = 0; i < 32; ++i) kv.set({0, 5}, i, static_cast<float>(kNan));
    for (int i = 0; i < 32; ++i) kv.set({0, 20}, i, static_cast<float>(kInf));
    Tensor probs = probabilities(c, random);
    probs.set(1, 30, 0.25);      // row 1 begins at key 30
    probs.set(2, 83 + 7, kNan);  // head 1 of row 2 at key 7: infinite and NaN values after it enter
    Tensor want = c.heads();
    cpu()->pv({Stage::attn_out, 0, c.rows}, probs.view(), c.params(), kv, want.view());
    EXPECT_FALSE(std::isnan(want.get(1, 0)));
    EXPECT_TRUE(std::isnan(want.get(2, 32)));
    EXPECT_EQ(count_different(want, run_pv(device(), c, probs, kv, RouteId::reference)), 0);
  }
}

/// ((s0 + s1) + s2) ..., each s a chain over the keys of a split of 256 positions; splits without keys do not count.
Tensor mixtures_by_splits(const AttentionCase& c, const Tensor& probs, const TwinKv& kv) {
  Tensor want = c.heads();
  for (int r = 0; r < c.n_rows(); ++r) {
    const RowId row = c.rows[static_cast<std::size_t>(r)];
    const int n = row.position + 1;
    for (int h = 0; h < c.n_heads; ++h) {
      for (int d = 0; d < c.head_dim; ++d) {
        const auto prob = [&](int j) { return static_cast<float>(probs.get(r, h * n + j)); };
        int first = 0;
        while (first < c.params().first_key(row.position) && prob(first) == 0) ++first;
        float total = 0;
        for (int begin = first; begin < n; begin = (begin / 256 + 1) * 256) {
          float sum = 0;
          for (int j = begin; j < std::min(n, (begin / 256 + 1) * 256); ++j)
            sum = std::fma(prob(j), kv.get({row.seq, j}, h / (c.n_heads / c.n_kv_heads) * c.head_dim + d), sum);
          total = begin == first ? sum : total + sum;
        }
        want.set(r, h * c.head_dim + d, static_cast<double>(total));
      }
    }
  }
  return want;
}

TEST_P(AttentionKernels, InvariantMixturesForAnyNumberOfRows) {
  std::mt19937_64 random(5);
  for (const auto& [n_rows, window] : {std::pair{1, 0}, {8, 0}, {9, 0}, {66, 0}, {2, 300}, {65, 300}, {1, 40}}) {
    const AttentionCase c{2, 1, 20, DType::f32, test::rows_from(700, n_rows), window};
    const TwinKv kv = c.cache(random);
    const Tensor probs = probabilities(c, random);
    const Tensor want = mixtures_by_splits(c, probs, kv);
    EXPECT_EQ(count_different(want, run_pv(device(), c, probs, kv, RouteId::invariant)), 0)
        << n_rows << " rows, window " << window;
    // The order of additions matters, or this test says nothing.
    const int apart = count_different(want, run_pv(device(), c, probs, kv, RouteId::reference));
    EXPECT_EQ(apart > 0, window != 40) << n_rows << " rows, window " << window;
  }
}

TEST_P(AttentionKernels, InvariantMixturesOfSeveralSequences) {
  std::mt19937_64 random(6);
  std::vector<RowId> rows;
  for (int i = 0; i < 67; ++i) rows.push_back({i % 3 == 0 ? 1 : 0, i % 2 == 0 ? 5 * i : 250 + i});
  for (const std::size_t n : {std::size_t{5}, rows.size()}) {
    const AttentionCase c{2, 2, 16, DType::f32, {rows.end() - static_cast<std::ptrdiff_t>(n), rows.end()}};
    const TwinKv kv = c.cache(random);
    const Tensor probs = probabilities(c, random);
    const Tensor want = mixtures_by_splits(c, probs, kv);
    under_schedules(emulated(), [&] {
      EXPECT_EQ(count_different(want, run_pv(device(), c, probs, kv, RouteId::invariant)), 0) << n << " rows";
    });
  }
}

/// Launches know a bound of the keys alone: one captured step serves every position below it.
TEST_P(AttentionKernels, OneGraphServesEveryPosition) {
  std::mt19937_64 random(8);
  constexpr int kMost = 600;
  const AttentionCase longest{4, 2, 16, DType::f32, {{0, kMost - 1}}};
  TwinKv kv = longest.cache(random);
  Tensor q = longest.heads();
  q.fill_normal(random);
  const Placed in(device(), q), out(device(), longest.heads());
  const DeviceArray<std::byte> memory(device(), kv.bytes());
  const DeviceArray<float> scores(device(), std::size_t{4} * kMost), probs(device(), std::size_t{4} * kMost);
  const DeviceArray<std::int32_t> position(device(), 1), sequence(device(), std::vector<std::int32_t>{0});
  const DeviceArray<std::int64_t> offset(device(), std::vector<std::int64_t>{0});
  const RowsArg rows{1, position.get(), sequence.get(), offset.get(), kMost};
  const KvArg cache = kv.arg(memory.bytes());
  PvArgs mix{RouteId::invariant, rows, cache, 4, 2, 16, 0, probs.get(), out.arg(), nullptr, KernelFault::none};
  const DeviceArray<std::byte> scratch(device(), device().kernels().pv_scratch(mix));
  mix.scratch = scratch.bytes();
  device().begin_capture();
  device().kernels().qk(stream(),
                        {RouteId::reference, in.arg(), rows, cache, 4, 2, 16, 0, 0.25f, 0, scores.get(), KernelFault::none});
  device().kernels().softmax(stream(), {RouteId::reference, rows, 4, scores.get(), probs.get(), KernelFault::none});
  device().kernels().pv(stream(), mix);
  const std::unique_ptr<Graph> graph = device().end_capture();
  for (const std::int32_t at : {40, 530, 255, 599, 0, 256}) {
    const AttentionCase c{4, 2, 16, DType::f32, {{0, at}}};
    Tensor seen = c.scores(), weights = c.scores();
    cpu()->qk({Stage::attn_scores, 0, c.rows}, q.view(), c.params(), kv, seen.view());
    cpu()->softmax({Stage::attn_probs, 0, c.rows}, seen.view(), c.params(), weights.view());
    device().upload(position.bytes(), &at, sizeof at, stream());
    graph->replay();
    EXPECT_EQ(count_different(mixtures_by_splits(c, weights, kv), out.download()), 0) << "position " << at;
  }
}

TEST_P(AttentionKernels, PvFaults) {
  std::mt19937_64 random(7);
  for (const DType stored : {DType::f32, DType::f16, DType::bf16}) {
    for (const int n_rows : {2, 66}) {
      const AttentionCase c{2, 1, 16, stored, test::rows_from(300, n_rows)};
      const TwinKv kv = c.cache(random);
      const Tensor probs = probabilities(c, random);
      const auto differing = [&](RouteId route, KernelFault fault) {
        return count_different(run_pv(device(), c, probs, kv, route), run_pv(device(), c, probs, kv, route, fault));
      };
      if (stored == DType::f32) {
        EXPECT_EQ(count_different(mixtures_by_splits(c, probs, kv), run_pv(device(), c, probs, kv, RouteId::invariant)), 0);
      }
      EXPECT_EQ(differing(RouteId::invariant, KernelFault::none), 0);
      EXPECT_GT(differing(RouteId::invariant, KernelFault::merge_stride), n_rows * 30);
      EXPECT_GT(differing(RouteId::reference, KernelFault::f16_accumulation), n_rows * 30);
      EXPECT_GT(differing(RouteId::invariant, KernelFault::f16_accumulation), n_rows * 30);
    }
  }
}

GRETA_ON_ALL_DEVICES(AttentionKernels);

}  // namespace
}  // namespace greta::gpu
