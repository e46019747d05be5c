// rmsnorm and softmax bit for bit as the CPU's reference route, and their faults.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/gpu/operands.h"

namespace greta::gpu {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

class Norms : public DeviceTest {};

struct NormCase {
  int n_rows, groups, n;
  Tensor x, want;
  Weight weight;

  NormCase(int rows, int group_count, int columns, std::mt19937_64& random)
      : n_rows(rows),
        groups(group_count),
        n(columns),
        x(DType::f32, rows, group_count * columns),
        want(DType::f32, rows, group_count * columns),
        weight(DType::f32, 1, columns, random) {
    x.fill_normal(random, 3);
    const std::vector<RowId> ids = test::rows_from(0, rows);
    cpu()->rmsnorm({Stage::ffn_norm, 0, ids}, x.view(), weight.view(), 1e-5, want.view());
  }
  std::vector<std::byte> run(Device& device, KernelFault fault = KernelFault::none) const {
    const Placed in(device, x), out(device, Tensor(DType::f32, n_rows, groups * n));
    const PlacedWeight gain(device, weight.view());
    device.kernels().rmsnorm(device.stream(),
                             {in.arg(), out.arg(), reinterpret_cast<const float*>(gain.arg().data), n_rows, n, 1e-5f, fault});
    return out.download();
  }
};

TEST_P(Norms, RmsnormOfRowsAndHeads) {
  std::mt19937_64 random(1);
  for (const auto& [n_rows, groups, n] :
       {std::tuple{1, 1, 1}, {1, 1, 50}, {3, 1, 300}, {2, 4, 48}, {70, 1, 33}, {1, 1, 4100}, {2, 1, 1024}, {1, 1, 9001}}) {
    const NormCase c(n_rows, groups, n, random);
    under_schedules(emulated(), [&] {
      EXPECT_EQ(count_different(c.want, c.run(device())), 0) << n_rows << " rows of " << groups << " x " << n;
    });
  }
}

TEST_P(Norms, RmsnormFaults) {
  std::mt19937_64 random(2);
  const NormCase c(2, 1, 2048, random);
  EXPECT_GT(count_different(c.want, c.run(device(), KernelFault::wrong_wave_size)), 2048);
  EXPECT_TRUE(ever_different(emulated(), c.want, [&] { return c.run(device(), KernelFault::missing_barrier); }));
}

struct SoftmaxCase {
  std::vector<RowId> rows;
  int n_heads;
  Tensor scores, want;

  static std::vector<std::int64_t> cols(const std::vector<RowId>& rows, int n_heads) {
    std::vector<std::int64_t> cols;
    for (const RowId& row : rows) cols.push_back(std::int64_t{n_heads} * (row.position + 1));
    return cols;
  }
  SoftmaxCase(std::vector<RowId> ids, int heads, std::mt19937_64& random)
      : rows(std::move(ids)), n_heads(heads), scores(DType::f32, cols(rows, heads)), want(DType::f32, cols(rows, heads)) {
    scores.fill_normal(random, 4);
  }
  void expect() { cpu()->softmax({Stage::attn_probs, 0, rows}, scores.view(), {n_heads, n_heads, 16}, want.view()); }
  std::vector<std::byte> run(Device& device, KernelFault fault = KernelFault::none) const {
    const Placed in(device, scores), out(device, Tensor(DType::f32, cols(rows, n_heads)));
    const PlacedRows placed(device, rows, scores.view().extents);
    device.kernels().softmax(device.stream(), {RouteId::reference, placed.arg(), n_heads, in.floats(), out.floats(), fault});
    return out.download();
  }
};

TEST_P(Norms, SoftmaxOfRaggedRows) {
  std::mt19937_64 random(3);
  const std::vector<std::vector<RowId>> cases{
      {{0, 0}}, {{0, 14}, {0, 15}, {0, 16}}, {{1, 4}, {0, 333}, {1, 5}, {2, 0}}, {{0, 1200}}, {{0, 4500}, {0, 4095}}};
  for (const std::vector<RowId>& rows : cases) {
    SoftmaxCase c(rows, 3, random);
    c.expect();
    under_schedules(emulated(), [&] { EXPECT_EQ(count_different(c.want, c.run(device())), 0) << rows.back().position; });
  }
}

/// So many heads that each is a wave's.
TEST_P(Norms, SoftmaxOfManyHeads) {
  std::mt19937_64 random(6);
  const std::vector<std::vector<RowId>> cases{
      test::rows_from(0, 20), test::rows_from(500, 20), {{0, 7}, {1, 1100}}, {{0, 2047}}, {{0, 2600}}};
  for (const std::vector<RowId>& rows : cases) {
    SoftmaxCase c(rows, 270 / static_cast<int>(rows.size()) + 3, random);
    c.expect();
    EXPECT_EQ(count_different(c.want, c.run(device())), 0) << rows.back().position;
  }
}

TEST_P(Norms, SoftmaxOfMaskedAndBrokenScores) {
  for (const int n_heads : {2, 50}) {
    std::mt19937_64 random(4);
    SoftmaxCase c(test::rows_from(40, 6), n_heads, random);
    const auto head = [&](int row, int j, double value) { c.scores.set(row, j, value); };
    for (int j = 0; j < 41; ++j) head(0, j, -kInf);  // nothing to see
    for (int j = 0; j < 20; ++j) head(1, j, -kInf);  // a window
    head(2, 3, kNan);
    head(3, 42, kInf);
    for (int j = 0; j < 45; ++j) head(4, j, j % 2 == 0 ? 0.0 : -0.0);
    for (int j = 0; j < 46; ++j) head(5, j, j == 45 ? 100 : -2000);
    c.expect();
    under_schedules(emulated(), [&] { EXPECT_EQ(count_different(c.want, c.run(device())), 0); });
  }
}

TEST_P(Norms, SoftmaxFaults) {
  std::mt19937_64 random(5);
  SoftmaxCase c({{0, 700}}, 2, random);
  c.expect();
  EXPECT_GT(count_different(c.want, c.run(device(), KernelFault::wrong_wave_size)), 700);
  EXPECT_TRUE(ever_different(emulated(), c.want, [&] { return c.run(device(), KernelFault::missing_barrier); }));
}

GRETA_ON_ALL_DEVICES(Norms);

}  // namespace
}  // namespace greta::gpu
