// Products of many rows at once: each row and output is what it would be alone, and what is judged without the roundings that
// are alike is judged as with them.
#include "audit/dot_tiles.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <random>
#include <vector>

#include "audit/examine.h"

namespace greta::audit {
namespace {

std::vector<double> numbers(std::size_t n, std::mt19937& random) {
  std::normal_distribution<float> normal;
  std::vector<double> out(n);
  for (double& value : out) value = normal(random);
  return out;
}

std::vector<std::span<const double>> spans(const std::vector<std::vector<double>>& rows) { return {rows.begin(), rows.end()}; }

/// The declared order, written out: term i to chain i % 16, then the tree.
DotSum<double> by_definition(const std::vector<double>& x, std::span<const double> w) {
  std::array<double, 16> sum{};
  DotSum<double> out;
  for (std::size_t i = 0; i < x.size(); ++i) {
    sum[i % 16] += x[i] * w[i];
    out.squares += sum[i % 16] * sum[i % 16];
  }
  for (std::size_t width = 8; width > 0; width /= 2)
    for (std::size_t i = 0; i < width; ++i) {
      sum[i] += sum[i + width];
      out.squares += sum[i] * sum[i];
    }
  out.value = sum[0];
  return out;
}

TEST(DotTiles, EveryRowAndOutputIsSummedInTheDeclaredOrder) {
  std::mt19937 random(1);
  for (const std::size_t n : {5u, 16u, 512u, 1031u}) {
    std::vector<std::vector<double>> rows;
    for (int r = 0; r < 3; ++r) rows.push_back(numbers(n, random));
    const auto views = spans(rows);
    DotTiles tiles(views);
    for (int round = 0; round < 2; ++round) {  // nothing is left over of the outputs before
      const std::vector<double> weights = numbers(n * DotTiles::kOutputs, random);
      tiles.add(weights);
      for (std::size_t r = 0; r < rows.size(); ++r)
        for (std::size_t o = 0; o < DotTiles::kOutputs; ++o) {
          const DotSum<double> due = by_definition(rows[r], std::span(weights).subspan(o * n, n));
          const DotSum<double> sum = tiles.sum(r, o);
          EXPECT_EQ(sum.value, due.value) << "n " << n << " row " << r << " output " << o;
          EXPECT_NEAR(sum.squares, due.squares, 1e-12 * due.squares);
          EXPECT_EQ(sum.roundings, static_cast<std::int64_t>(n + 15));
        }
    }
  }
}

/// Weights of 5 outputs, codes of 8 bits in blocks of 32 with a scale each.
struct Codes {
  static constexpr std::size_t kIn = 96, kOut = 5;
  std::vector<double> values;

  explicit Codes(std::mt19937& random) {
    for (std::size_t b = 0; b < kIn / 32 * kOut; ++b) {
      const double scale = std::ldexp(1.0 + static_cast<double>(random() % 1024) / 1024, -7);
      for (int i = 0; i < 32; ++i) values.push_back(scale * (static_cast<double>(random() % 255) - 127));
    }
  }
  void row(std::int64_t o, std::span<double> out) const {
    std::copy_n(values.begin() + o * static_cast<std::int64_t>(kIn), kIn, out.begin());
  }
};

TEST(IntegerProducts, RowsThatAreComputedTogetherAreWhatTheyAreAlone) {
  std::mt19937 random(2);
  const Codes x(random), more(random), weights(random);
  std::vector<std::vector<double>> rows;
  for (const Codes* codes : {&x, &more})
    for (std::size_t r = 0; r < Codes::kOut; ++r) {
      rows.emplace_back(Codes::kIn);
      codes->row(static_cast<std::int64_t>(r), rows.back());
    }
  const auto views = spans(rows);
  for (const bool minima : {false, true}) {
    const auto weight = [&](std::int64_t o, std::span<double> values, std::span<double> lowest) {
      weights.row(o, values);
      for (double& m : lowest) m = -0.25 * static_cast<double>(o + 1);
    };
    const auto due = [&](std::size_t first, std::size_t n) {
      return integer_matmul(std::span(views).subspan(first, n), Codes::kOut, {32, minima}, weight, {}, chain_arithmetic());
    };
    const std::vector<Estimate> all = due(0, rows.size());
    for (std::size_t r = 0; r < rows.size(); ++r) {
      const Estimate alone = due(r, 1).front();
      EXPECT_EQ(all[r].value, alone.value) << r;
      EXPECT_EQ(all[r].bound, alone.bound) << r;
      for (std::size_t o = 0; o < Codes::kOut; ++o) {
        long double sum = 0, block = 0, squares = 0;
        for (std::size_t i = 0; i < Codes::kIn; ++i) {
          sum += static_cast<long double>(rows[r][i]) * weights.values[o * Codes::kIn + i];
          block += static_cast<long double>(rows[r][i]) * weights.values[o * Codes::kIn + i];
          if (i % 32 == 31) {
            squares += sum * sum + block * block;
            block = 0;
          }
        }
        EXPECT_NEAR(alone.value[o], static_cast<double>(sum), 1e-13 * std::sqrt(static_cast<double>(squares)));
        if (minima) continue;
        // 6 roundings, fewer than 36: the worst case, sqrt(N) u sqrt(squares), and 1 % of room.
        EXPECT_NEAR(alone.bound[o], 1.01 * std::sqrt(6.0) * 0x1p-24 * std::sqrt(static_cast<double>(squares)),
                    1e-5 * alone.bound[o]);
      }
    }
  }
}

/// One row of a product of 3 outputs in plan `reference`.
RowCase product(std::vector<double> x, std::vector<double> weights) {
  RowCase row;
  row.op.op = OpClass::matmul;
  const std::size_t n = x.size();
  row.matrix.n_in = static_cast<std::int64_t>(n);
  row.matrix.n_out = 3;
  row.matrix.row = [weights = std::move(weights), n](std::int64_t o, std::span<double> out) {
    std::copy_n(weights.begin() + o * static_cast<std::int64_t>(n), n, out.begin());
  };
  row.inputs.push_back(std::move(x));
  return row;
}

/// `actual` judged without and with the roundings that are alike, and by judge_product().
struct Verdicts {
  LocalError quick, whole, product;

  Verdicts(const RowCase& row, double off, bool in_units_of_quick) {
    const std::span<const double> x = row.inputs[0];
    const Arithmetic arithmetic = reference_arithmetic();
    const Estimate without = products(row, {&x, 1}, arithmetic, AlikeRoundings::may_be_left_out).front();
    const Estimate with = products(row, {&x, 1}, arithmetic).front();
    std::vector<double> actual = with.value;
    actual[1] += off * (in_units_of_quick ? without : with).bound[1];
    quick = judge(without, actual);
    whole = judge(with, actual);
    product = judge_product(row, without, actual, arithmetic);
  }
};

TEST(JudgeProduct, RoundingsThatAreAlikeAreCountedWhereTheyDecide) {
  constexpr std::size_t kTerms = 4096;
  std::vector<double> weights(3 * kTerms, 0.1f);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] *= 1 + static_cast<double>(i / kTerms);
  const RowCase row = product(std::vector<double>(kTerms, 0.3f), weights);
  const Verdicts within(row, 3, true);  // terms that are all equal: the bound is ten times as large as without them
  EXPECT_TRUE(within.quick.guilty());
  EXPECT_FALSE(within.whole.guilty());
  EXPECT_FALSE(within.product.guilty());
  EXPECT_EQ(within.product.ratio, within.whole.ratio);
  const Verdicts beyond(row, 1.5, false);
  EXPECT_TRUE(beyond.product.guilty());
  EXPECT_EQ(beyond.product.ratio, beyond.whole.ratio);
  EXPECT_EQ(beyond.product.over, beyond.whole.over);
}

TEST(JudgeProduct, OrdinaryRowsAreJudgedAsWhole) {
  std::mt19937 random(3);
  const RowCase row = product(numbers(640, random), numbers(3 * 640, random));
  for (const double off : {0.0, 0.5, 2.0, -1.0e6}) {
    const Verdicts verdicts(row, off, false);
    EXPECT_EQ(verdicts.product.guilty(), std::fabs(off) > 1) << off;
    EXPECT_EQ(verdicts.product.guilty(), verdicts.whole.guilty()) << off;
    EXPECT_EQ(verdicts.product.ratio, verdicts.whole.ratio) << off;
    EXPECT_EQ(verdicts.product.element, verdicts.whole.element) << off;
  }
}

}  // namespace
}  // namespace greta::audit
