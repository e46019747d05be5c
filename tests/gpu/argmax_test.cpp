#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "engine/sampler.h"
#include "tests/gpu/devices.h"

namespace greta::gpu {
namespace {

constexpr float kInf = std::numeric_limits<float>::infinity();

class ArgmaxKernel : public DeviceTest {
 protected:
  std::vector<std::int32_t> ids_of(const std::vector<std::vector<float>>& rows, std::int64_t n_cols, std::int64_t padding) {
    std::vector<float> all;
    for (const std::vector<float>& row : rows) {
      all.insert(all.end(), row.begin(), row.end());
      all.insert(all.end(), static_cast<std::size_t>(padding), kInf);  // behind a row: never read
    }
    const DeviceArray<float> logits(device(), all);
    const DeviceArray<std::int32_t> ids(device(), rows.size());
    device().kernels().argmax(stream(), {.logits = {logits.bytes(), DType::f32, n_cols, (n_cols + padding) * 4},
                                         .n_rows = static_cast<std::int32_t>(rows.size()),
                                         .ids = ids.get()});
    return ids.download();
  }
};

TEST_P(ArgmaxKernel, TakesTheLowestOfEqualsAndNeverNan) {
  EXPECT_EQ(ids_of({{1, 3, 3, 2},
                    {NAN, -5, NAN, -6},
                    {-kInf, -kInf, -kInf, NAN},
                    {NAN, NAN, NAN, NAN},
                    {-1, -0.0f, 0.0f, -2},
                    {NAN, -kInf, NAN, NAN}},
                   4, 3),
            (std::vector<std::int32_t>{1, 1, 0, -1, 1, 1}));
}

TEST_P(ArgmaxKernel, FindsTheSameAsTheCpuWhereverItLies) {
  std::mt19937 random(5);
  for (const std::int64_t n : {1, 31, 33, 1000, 1025, 8193, 20'011}) {
    std::vector<std::vector<float>> rows;
    std::vector<std::int32_t> expected;
    for (int r = 0; r < 6; ++r) {
      std::vector<float> row(static_cast<std::size_t>(n));
      for (float& x : row)
        x = static_cast<float>(static_cast<int>(random() % (r < 3 ? 40u : 1'000'000u)));  // many ties, or few
      if (r % 2 == 0) row[random() % row.size()] = NAN;
      if (r == 5) row.back() = 2e6f;
      rows.push_back(row);
      expected.push_back(argmax(std::vector<double>(row.begin(), row.end())));
    }
    EXPECT_EQ(ids_of(rows, n, n % 2), expected) << n;
  }
}

GRETA_ON_ALL_DEVICES(ArgmaxKernel);

}  // namespace
}  // namespace greta::gpu
