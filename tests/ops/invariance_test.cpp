// The invariance contract of route `reference` (docs/architecture.md): the bits of a row do not depend on the instruction set,
// the number of threads or the rows computed with it. Random shapes; the scalar lanes on one thread, all rows at once, are what
// the others must equal.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>

#include "tests/ops/harness.h"

namespace greta::test {
namespace {

/// Runs rows [begin, begin + n) of an op into `out`, whose rows are all of them.
using OpRun = std::function<void(Ops& ops, std::int64_t begin, std::int64_t n, const Tensor& out)>;

struct Schedule {
  Isa isa;
  int threads;
  std::int64_t chunk;
};

std::vector<Schedule> schedules() {
  std::vector<Schedule> all;
  for (const Isa isa : supported_isas()) {
    for (const auto& [threads, chunk] : {std::pair{1, 1000}, {1, 1}, {2, 1000}, {3, 2}, {3, 7}, {2, 12}, {5, 1000}})
      all.push_back({isa, threads, chunk});
  }
  return all;
}

void compute(const Schedule& schedule, const OpRun& run, const Tensor& out) {
  ThreadPool pool(schedule.threads);
  const auto ops = make_cpu_ops({.isa = schedule.isa, .pool = pool});
  for (std::int64_t begin = 0; begin < out.view().n_rows; begin += schedule.chunk) {
    run(*ops, begin, std::min(schedule.chunk, out.view().n_rows - begin), out);
  }
}

/// `make` gives a fresh, unwritten output.
void expect_same_bits(const std::string& what, const std::function<Tensor()>& make, const OpRun& run) {
  const Tensor expected = make();
  compute({Isa::scalar, 1, 1 << 20}, run, expected);
  for (const Schedule& schedule : schedules()) {
    const Tensor got = make();
    compute(schedule, run, got);
    ASSERT_EQ(std::memcmp(got.bytes().data(), expected.bytes().data(), got.bytes().size()), 0)
        << what << " on " << name(schedule.isa) << ", " << schedule.threads << " threads, " << schedule.chunk << " rows a call";
  }
}

class Invariance : public testing::TestWithParam<int> {
 protected:
  std::mt19937_64 random_{static_cast<std::uint64_t>(GetParam()) + 100};
  std::int64_t pick(std::int64_t low, std::int64_t high) {
    return std::uniform_int_distribution<std::int64_t>(low, high)(random_);
  }
  Tensor activations(std::int64_t n_rows, std::int64_t n_cols, double scale = 1) {
    Tensor x(DType::f32, n_rows, n_cols);
    x.fill_normal(random_, scale);
    return x;
  }
};

TEST_P(Invariance, Matmul) {
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16, DType::q8_0, DType::q4_0}) {
    const std::int64_t block = dtype_info(dtype).block_elems;
    const std::int64_t n_in = block == 1 ? pick(1, 400) : block * pick(1, 12), n_out = pick(1, 70), n_rows = pick(1, 50);
    const Weight weight(dtype, n_out, n_in, random_), bias(DType::f32, 1, n_out, random_);
    const Tensor x = activations(n_rows, n_in);
    const std::vector<RowId> rows = rows_from(0, n_rows);
    for (const bool transposed : {false, true}) {
      expect_same_bits(
          fmt::format("matmul {} in {} out {} rows {} transposed {}", name(dtype), n_in, n_out, n_rows, transposed),
          [&] { return Tensor(DType::f32, n_rows, n_out); },
          [&](Ops& ops, std::int64_t begin, std::int64_t n, const Tensor& out) {
            ops.matmul({Stage::q, 0, std::span(rows).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n))},
                       x.rows(begin, n), transposed ? weight.transposed() : weight.view(), bias.view(), out.rows(begin, n));
          });
    }
  }
}

TEST_P(Invariance, NormAndElementwise) {
  const std::int64_t n_cols = pick(1, 700), n_rows = pick(1, 40);
  const Weight weight(DType::f32, 1, n_cols, random_);
  const Tensor x = activations(n_rows, n_cols, 3), y = activations(n_rows, n_cols, 30);
  const std::vector<RowId> rows = rows_from(0, n_rows);
  const auto make = [&] { return Tensor(DType::f32, n_rows, n_cols); };
  const auto site = [&](std::int64_t begin, std::int64_t n) {
    return OpSite{Stage::ffn_act, 0, std::span(rows).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n))};
  };
  const std::string shape = fmt::format(" rows {} cols {}", n_rows, n_cols);
  expect_same_bits("rmsnorm" + shape, make, [&](Ops& ops, std::int64_t begin, std::int64_t n, const Tensor& out) {
    ops.rmsnorm(site(begin, n), x.rows(begin, n), weight.view(), 1e-5, out.rows(begin, n));
  });
  expect_same_bits("add" + shape, make, [&](Ops& ops, std::int64_t begin, std::int64_t n, const Tensor& out) {
    ops.add(site(begin, n), x.rows(begin, n), y.rows(begin, n), out.rows(begin, n));
  });
  expect_same_bits("silu_mul" + shape, make, [&](Ops& ops, std::int64_t begin, std::int64_t n, const Tensor& out) {
    ops.silu_mul(site(begin, n), y.rows(begin, n), x.rows(begin, n), out.rows(begin, n));
  });
}

TEST_P(Invariance, Rope) {
  const int head_dim = static_cast<int>(2 * pick(1, 64)), n_rot = static_cast<int>(2 * pick(0, head_dim / 2));
  const std::int64_t n_rows = pick(1, 20), n_cols = head_dim * pick(1, 9);
  const RopeParams params{500000.0, head_dim, n_rot, pick(0, 1) == 1, 1.0, {}};
  const Tensor x = activations(n_rows, n_cols);
  const std::vector<RowId> rows = rows_from(0, n_rows);
  std::vector<std::int32_t> positions;
  for (std::int64_t r = 0; r < n_rows; ++r) positions.push_back(static_cast<std::int32_t>(pick(0, 200000)));
  expect_same_bits(
      "rope", [&] { return Tensor(DType::f32, n_rows, n_cols); },
      [&](Ops& ops, std::int64_t begin, std::int64_t n, const Tensor& out) {
        const auto first = static_cast<std::size_t>(begin), count = static_cast<std::size_t>(n);
        ops.rope({Stage::q_rope, 0, std::span(rows).subspan(first, count)}, x.rows(begin, n), params,
                 std::span(positions).subspan(first, count), out.rows(begin, n));
      });
}

TEST_P(Invariance, Attention) {
  const int n_kv_heads = static_cast<int>(pick(1, 4)), n_heads = n_kv_heads * static_cast<int>(pick(1, 6));
  const DType dtype = std::array{DType::f64, DType::f32, DType::f16, DType::q8_0}[static_cast<std::size_t>(pick(0, 3))];
  const int head_dim = dtype == DType::q8_0 ? std::array{32, 64, 96, 128}[static_cast<std::size_t>(pick(0, 3))]
                                            : std::array{48, 80, 64, 128, 5, 20}[static_cast<std::size_t>(pick(0, 5))];
  const AttentionParams params{n_heads, n_kv_heads, head_dim, 1 / std::sqrt(static_cast<double>(head_dim))};
  LooseKv kv(dtype, n_kv_heads * head_dim);
  kv.fill_normal(KvPart::k, 0, 2, 70, random_);
  kv.fill_normal(KvPart::v, 0, 2, 70, random_);
  std::vector<RowId> rows;  // two sequences, each in order, mixed
  std::array<std::int32_t, 2> next = {static_cast<std::int32_t>(pick(0, 40)), static_cast<std::int32_t>(pick(0, 40))};
  std::vector<std::int64_t> score_cols;
  for (std::int64_t n = pick(1, 25); n > 0; --n) {
    const auto seq = static_cast<std::size_t>(pick(0, 1));
    rows.push_back({static_cast<std::int32_t>(seq), next[seq]++});
    score_cols.push_back(std::int64_t{n_heads} * next[seq]);
  }
  const auto n_rows = static_cast<std::int64_t>(rows.size());
  const Tensor q = activations(n_rows, n_heads * head_dim, 2);
  const auto site = [&](std::int64_t begin, std::int64_t n) {
    return OpSite{Stage::attn_scores, 0, std::span(rows).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n))};
  };
  const auto ragged = [&] { return Tensor(DType::f32, score_cols); };
  const std::string shape =
      fmt::format(" heads {}/{} head_dim {} kv {} rows {}", n_heads, n_kv_heads, head_dim, name(dtype), n_rows);

  const OpRun scores_of = [&](Ops& ops, std::int64_t begin, std::int64_t n, const Tensor& out) {
    ops.qk(site(begin, n), q.rows(begin, n), params, kv, out.rows(begin, n));
  };
  expect_same_bits("qk" + shape, ragged, scores_of);
  const Tensor scores = ragged();
  compute({Isa::scalar, 1, 1000}, scores_of, scores);
  const OpRun probs_of = [&](Ops& ops, std::int64_t begin, std::int64_t n, const Tensor& out) {
    ops.softmax(site(begin, n), scores.rows(begin, n), params, out.rows(begin, n));
  };
  expect_same_bits("softmax" + shape, ragged, probs_of);
  const Tensor probs = ragged();
  compute({Isa::scalar, 1, 1000}, probs_of, probs);
  expect_same_bits(
      "pv" + shape, [&] { return Tensor(DType::f32, n_rows, n_heads * head_dim); },
      [&](Ops& ops, std::int64_t begin, std::int64_t n, const Tensor& out) {
        ops.pv(site(begin, n), probs.rows(begin, n), params, kv, out.rows(begin, n));
      });
}

INSTANTIATE_TEST_SUITE_P(Ops, Invariance, testing::Range(0, 12));
INSTANTIATE_TEST_SUITE_P(HeavyOps, Invariance, testing::Range(12, 400));

}  // namespace
}  // namespace greta::test
