// The experiment: over 10,000 healthy rows of all ops, none beyond its bound, and no bound far from what was seen. It prints
// the slack (bound / largest error) of each.
#include <gtest/gtest.h>

#include <algorithm>
#include <iostream>
#include <limits>
#include <map>

#include "tests/audit/kernels.h"
#include "tests/audit/rounded.h"

namespace greta::test {
namespace {

/// What a row's judgements were, by op.
class Table {
 public:
  void add(const std::string& op, const std::string& what, const Judged& row) {
    const audit::LocalError verdict = row.verdict();
    Line& line = lines_[op];
    ++line.runs;
    ++runs;
    if (verdict.ratio > 0) line.slack.push_back(1 / verdict.ratio);
    line.common = std::max({line.common, verdict.scale.ratio, verdict.offset.ratio});
    EXPECT_EQ(verdict.over, 0) << op << ", " << what << ": element " << verdict.element << " is off by " << verdict.error
                               << ", bound " << verdict.bound;
    EXPECT_EQ(verdict.over_worst, 0) << op << ", " << what;
    EXPECT_LE(verdict.scale.ratio, 1) << op << ", " << what << ": scale off by " << verdict.scale.error;
    EXPECT_LE(verdict.offset.ratio, 1) << op << ", " << what << ": offset " << verdict.offset.error;
    for (std::size_t i = 0; i < row.estimate.bound.size(); ++i)
      ASSERT_LE(row.estimate.bound[i], row.estimate.worst[i] * 1.0001) << op << what;
  }
  void print_and_check() {
    std::cout << fmt::format("{:<28}{:>7}{:>9}{:>15}{:>16}{:>24}\n", "op", "runs", "inexact", "median slack", "smallest slack",
                             "smallest slack, common");
    for (auto& [op, line] : lines_) {
      std::sort(line.slack.begin(), line.slack.end());
      const double median = line.slack.empty() ? 1 : line.slack[line.slack.size() / 2];
      std::cout << fmt::format("{:<28}{:>7}{:>9}{:>15.2f}{:>16.2f}{:>24.2f}\n", op, line.runs, line.slack.size(), median,
                               line.slack.empty() ? 1 : line.slack.front(), 1 / line.common);
      EXPECT_LT(median, 30) << op;
    }
    std::cout << runs << " runs\n";
  }
  int runs = 0;

 private:
  struct Line {
    int runs = 0;
    std::vector<double> slack;  // of runs with an error
    double common = 0;
  };
  std::map<std::string, Line> lines_;
};

/// Lengths from 1 to `most`, as many in each octave.
std::size_t length(std::size_t most, std::mt19937_64& random) {
  std::uniform_real_distribution<double> log(0, std::log2(static_cast<double>(most) + 1));
  return std::clamp<std::size_t>(static_cast<std::size_t>(std::exp2(log(random))), 1, most);
}
std::int64_t whole_blocks(std::size_t n, std::int64_t block) {
  return std::max<std::int64_t>(block, static_cast<std::int64_t>(n) / block * block);
}

std::string long_or_short(const std::string& op, std::int64_t n) { return op + (n < 1024 ? "" : ", n >= 1024"); }

std::vector<double> floats(std::vector<double> values) {
  for (double& value : values) value = static_cast<double>(static_cast<float>(value));
  return values;
}

void real_kernels(Table& table, int rounds, std::mt19937_64& random) {
  const std::vector<Declared> routes = declared_routes();
  const std::vector<DType> plain = {DType::f32, DType::f16, DType::bf16};
  const std::vector<DType> blocks = {DType::q8_0, DType::q4_0, DType::q4_1, DType::q5_0, DType::q5_1, DType::iq4_nl,
                                     DType::q2_k, DType::q3_k, DType::q4_k, DType::q5_k, DType::q6_k, DType::iq4_xs};
  for (int round = 0; round < rounds; ++round) {
    const Spread spread = kSpreads[static_cast<std::size_t>(round) % 6];
    const bool odd = (round / 6) % 2 == 1;
    const DType block = blocks[static_cast<std::size_t>(round) % blocks.size()];
    const std::string what = fmt::format("round {}", round);
    for (const Declared& route : routes) {
      const std::string where = route.name + ", " + what;
      const auto n = [&](std::size_t most) { return length(most, random); };
      const auto inputs = static_cast<std::int64_t>(n(8192));
      table.add(long_or_short("matmul", inputs), where,
                run_matmul(route, plain[static_cast<std::size_t>(round) % 3], inputs, 6, spread, odd, random));
      table.add("matmul of blocks", where,
                run_matmul(route, block, whole_blocks(n(4096), dtype_info(block).block_elems), 4, spread, odd, random));
      table.add("rmsnorm", where,
                run_rmsnorm(route, static_cast<std::int64_t>(n(8192)), odd ? 1e-5 : 1e-6, spread, random, odd ? 0 : 1e-6));
      table.add("rope", where,
                run_rope(route, 64, odd ? 64 : 32, 3, static_cast<std::int32_t>(n(131072)), odd, odd ? 500000 : 10000, random));
      const DType kv = std::vector<DType>{DType::f32, DType::f16, DType::q8_0}[static_cast<std::size_t>(round) % 3];
      table.add(
          "qk", where,
          run_qk(route,
                 {static_cast<std::int64_t>(n(32)), odd ? 128 : 32, kv, round % 5 == 0 ? 30.0 : 0.0, round % 7 == 0 ? 5 : 0},
                 spread, random));
      std::vector<double> scores = numbers(n(8192), spread == Spread::cancelling ? Spread::normal : spread, random);
      for (double& score : scores) score = std::clamp(score * 4, -300.0, 300.0);
      table.add("softmax", where,
                run_softmax(route, scores, round % 7 == 0 ? static_cast<std::int64_t>(scores.size() / 2) : 0));
      table.add("pv", where,
                run_pv(route, {static_cast<std::int64_t>(n(round % 10 == 0 ? 2048 : 128)), 32, kv, 0, round % 7 == 0 ? 5 : 0},
                       spread, random));
      table.add("add", where, run_add(route, n(8192), spread, random));
      table.add("act_mul silu", where, run_act_mul(route, Activation::silu, n(2048), odd ? 1 : 8, spread, random));
      table.add("act_mul gelu_tanh", where, run_act_mul(route, Activation::gelu_tanh, n(2048), 1, spread, random));
      table.add("softcap", where, run_softcap(route, n(2048), odd ? 30 : 0.7, spread, random));
      table.add("embed", where,
                run_embed(route, block, whole_blocks(n(2048), dtype_info(block).block_elems), odd ? 45.2548 : 1, random));
      for (const DType type : {DType::f64, DType::f32, DType::f16, DType::q8_0}) {
        table.add("kv_write " + std::string(name(type)), where,
                  run_kv_write(route, type, whole_blocks(n(512), 32), spread, random));
      }
      table.add("quantize", where, run_quantize(route, whole_blocks(n(2048), 32), spread, random));
    }
    table.add(
        "matmul q8", what,
        run_integer_matmul(block, whole_blocks(length(8192, random), dtype_info(block).block_elems), 16, spread, odd, random));
  }
}

/// A format's arithmetic as `round` computes it, over so many lanes.
Arithmetic declared(const Rounded& round, std::size_t lanes, bool fused) {
  Arithmetic arithmetic;
  arithmetic.accumulator.unit = round.unit();
  arithmetic.lanes = static_cast<int>(lanes);
  arithmetic.fused = fused;
  return arithmetic;
}

/// Sums of products in a shuffled order, which is the declared one: x and w are permuted alike.
Judged shuffled_matmul(Rounded& round, std::size_t n, std::size_t lanes, bool fused, Spread spread, std::mt19937_64& random) {
  constexpr std::int64_t kOuts = 6;
  std::vector<double> x = floats(numbers(n, spread, random));
  if (spread != Spread::massive) std::shuffle(x.begin(), x.end(), random);
  std::vector<std::vector<double>> weights;
  Judged out;
  for (std::int64_t o = 0; o < kOuts; ++o) {
    const bool plain_sum = spread == Spread::cancelling || spread == Spread::constant || spread == Spread::massive;
    weights.push_back(plain_sum ? std::vector<double>(n, 1 + static_cast<double>(o)) : floats(numbers(n, spread, random)));
    out.actual.push_back(rounded_dot(round, x, weights.back(), lanes, fused));
  }
  const std::span<const double> rows[] = {x};
  const auto row = [&](std::int64_t o, std::span<double> w) {
    std::ranges::copy(weights[static_cast<std::size_t>(o)], w.begin());
  };
  out.estimate = audit::matmul(rows, kOuts, row, {}, declared(round, lanes, fused))[0];
  return out;
}

void emulated(Table& table, int rounds, std::mt19937_64& random) {
  for (int i = 0; i < rounds; ++i) {
    const Spread spread = kSpreads[i % 6];
    const bool stochastic = (i / 6) % 2 == 1, fused = (i / 12) % 3 != 0;
    const int digits = (i / 36) % 4 == 3 ? 11 : 24;
    const std::size_t lanes = std::size_t{1} << (i / 7 % 7);
    Rounded round(digits, stochastic, random);
    const std::string what = fmt::format("emulated, round {}: {} digits{}, {} lanes{}", i, digits,
                                         stochastic ? " stochastic" : "", lanes, fused ? "" : ", unfused");
    const std::size_t most = digits == 24 ? 8192 : 128;
    const std::size_t inputs = length(most, random);
    table.add(long_or_short("matmul shuffled", static_cast<std::int64_t>(inputs)), what,
              shuffled_matmul(round, inputs, lanes, fused, spread, random));
    const Arithmetic arithmetic = declared(round, lanes, true);

    const std::vector<double> x = floats(numbers(length(most, random), spread, random)),
                              gain = floats(numbers(x.size(), Spread::normal, random));
    table.add("rmsnorm shuffled", what,
              {audit::rmsnorm(x, gain, 1e-5, arithmetic), rounded_rmsnorm(round, x, gain, 1e-5, lanes)});
    std::vector<double> scores = floats(numbers(length(most, random), spread, random));
    if (spread == Spread::massive) scores[0] = 17;  // an attention sink: the others are near half a digit of its 1
    for (double& score : scores) score = static_cast<double>(static_cast<float>(std::clamp(score, -80.0, 80.0)));
    table.add("softmax shuffled", what, {audit::softmax(scores, arithmetic), rounded_softmax(round, scores, lanes, true)});

    constexpr std::size_t kHeadDim = 16;
    const Spread of_probs = spread == Spread::cancelling ? Spread::normal : spread;
    const std::vector<double> p = floats(probabilities(length(std::min<std::size_t>(most, 2048), random), of_probs, random));
    std::vector<double> values = floats(numbers(p.size() * kHeadDim, spread, random));
    const auto value = [&](std::int64_t j) {
      return std::span<const double>(values).subspan(static_cast<std::size_t>(j) * kHeadDim, kHeadDim);
    };
    table.add("pv stochastic", what, {audit::pv(p, kHeadDim, value, 0, arithmetic), rounded_pv(round, p, values)});
    table.add("act_mul silu stochastic", what,
              {audit::act_mul(Activation::silu, scores, scores, arithmetic), rounded_silu(round, scores, scores)});
  }
}

TEST(Bounds, HoldForEveryHealthyRow) {
  std::mt19937_64 random(20240607);
  Table table;
  real_kernels(table, 100, random);
  emulated(table, 1000, random);
  table.print_and_check();
  EXPECT_GE(table.runs, 10000);
}

TEST(HeavyBounds, HoldForEveryHealthyRow) {
  std::mt19937_64 random(7);
  Table table;
  real_kernels(table, 3000, random);
  emulated(table, 30000, random);
  table.print_and_check();
  EXPECT_GE(table.runs, 300000);
}

}  // namespace
}  // namespace greta::test
