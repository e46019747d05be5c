// The lane type itself, on every target: exp's accuracy, the reduction tree, loads of every storage type.
#include "ops/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "tests/ops/lanes_test.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which flips its guard.
#include "ops/cpu/lanes.h"

HWY_BEFORE_NAMESPACE();
namespace greta::HWY_NAMESPACE {

void exp_lanes(const float* x, float* out) { store(exp(load(x)), out); }
float sum_lanes(const float* x) { return reduce_add(load(x)); }
/// A whole row of `n` elements, a multiple of 32 and of the block.
template <DType kType>
void load_all(const std::byte* row, std::int64_t n, float* out) {
  if constexpr (kIsSuperBlock<kType>) {
    for (std::int64_t k = 0; k < n; k += kSuperBlock) {
      const auto& block = reinterpret_cast<const BlockOf<kType>*>(row)[k / kSuperBlock];
      SubScales scales;
      load_scales(block, scales);
      for_groups([&](auto group) HWY_ATTR { store(load_group<group()>(block, scales), out + k + group() * kLanes); });
    }
  } else {
    for (std::int64_t k = 0; k < n; k += 32) {
      store(load_half<kType, 0>(row, k), out + k);
      store(load_half<kType, 1>(row, k), out + k + kLanes);
    }
  }
}
void load_row_of(DType dtype, const std::byte* row, std::int64_t n, float* out) {
  // clang-format off
  switch (dtype) {
    case DType::f64: return load_all<DType::f64>(row, n, out);
    case DType::f32: return load_all<DType::f32>(row, n, out);
    case DType::f16: return load_all<DType::f16>(row, n, out);
    case DType::bf16: return load_all<DType::bf16>(row, n, out);
    case DType::q8_0: return load_all<DType::q8_0>(row, n, out);
    case DType::q4_0: return load_all<DType::q4_0>(row, n, out);
    case DType::q4_1: return load_all<DType::q4_1>(row, n, out);
    case DType::q5_0: return load_all<DType::q5_0>(row, n, out);
    case DType::q5_1: return load_all<DType::q5_1>(row, n, out);
    case DType::q2_k: return load_all<DType::q2_k>(row, n, out);
    case DType::q3_k: return load_all<DType::q3_k>(row, n, out);
    case DType::q4_k: return load_all<DType::q4_k>(row, n, out);
    case DType::q5_k: return load_all<DType::q5_k>(row, n, out);
    case DType::q6_k: return load_all<DType::q6_k>(row, n, out);
    case DType::iq4_nl: return load_all<DType::iq4_nl>(row, n, out);
    case DType::iq4_xs: return load_all<DType::iq4_xs>(row, n, out);
    case DType::q8_f32: return;  // activations are not read this way
  }
  // clang-format on
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

namespace greta::test {
namespace {

constexpr auto kExp = GRETA_PER_ISA(exp_lanes);
constexpr auto kSum = GRETA_PER_ISA(sum_lanes);
constexpr auto kLoad = GRETA_PER_ISA(load_row_of);

float exp_of(Isa isa, float x) {
  float in[kLanes] = {x}, out[kLanes];
  kExp[isa](in, out);
  return out[0];
}

/// Distance from the truth in units of the last place of the truth (subnormal ones included).
double ulps(float got, long double truth) {
  const auto nearest = static_cast<float>(truth);
  const float next = std::nextafter(nearest, std::numeric_limits<float>::infinity());
  return static_cast<double>(std::fabs(static_cast<long double>(got) - truth) /
                             (static_cast<long double>(next) - static_cast<long double>(nearest)));
}

TEST(LanesExp, IsWithinOneUlpEverywhereAndTheSameOnEveryTarget) {
  double worst = 0;
  float worst_at = 0;
  // Every 997th float between the edges of the result's range: about 2.2 million of them.
  for (const float edge : {88.7228f, -103.9720f}) {
    for (std::uint32_t bits = 0; bits <= std::bit_cast<std::uint32_t>(std::fabs(edge)); bits += 997u * kLanes) {
      float x[kLanes], expected[kLanes], got[kLanes];
      for (std::uint32_t i = 0; i < kLanes; ++i) x[i] = std::copysign(std::bit_cast<float>(bits + 997u * i), edge);
      if (std::fabs(x[kLanes - 1]) > std::fabs(edge)) break;
      kExp[Isa::scalar](x, expected);
      for (const Isa isa : supported_isas()) {
        kExp[isa](x, got);
        ASSERT_EQ(std::memcmp(got, expected, sizeof got), 0) << name(isa) << " from " << x[0];
      }
      for (int i = 0; i < kLanes; i += 5) {
        const double error = ulps(expected[i], std::exp(static_cast<long double>(x[i])));
        if (error > worst) worst_at = x[i];
        worst = std::max(worst, error);
      }
    }
  }
  std::cout << "worst error " << worst << " ULP at " << worst_at << "\n";
  EXPECT_LE(worst, 1.0);
}

TEST(LanesExp, EdgesAreIeee) {
  const float infinity = std::numeric_limits<float>::infinity();
  for (const Isa isa : supported_isas()) {
    EXPECT_EQ(exp_of(isa, 0.0f), 1.0f);
    EXPECT_EQ(exp_of(isa, -0.0f), 1.0f);
    EXPECT_EQ(exp_of(isa, infinity), infinity);
    EXPECT_EQ(exp_of(isa, -infinity), 0.0f);
    EXPECT_EQ(exp_of(isa, 88.73f), infinity);
    EXPECT_EQ(exp_of(isa, 3e38f), infinity);
    EXPECT_EQ(exp_of(isa, -3e38f), 0.0f);
    EXPECT_EQ(exp_of(isa, -104.5f), 0.0f);
    EXPECT_EQ(exp_of(isa, -103.5f), 0x1p-149f);
    EXPECT_TRUE(std::isnan(exp_of(isa, std::numeric_limits<float>::quiet_NaN())));
    EXPECT_TRUE(std::isnan(exp_of(isa, -std::numeric_limits<float>::quiet_NaN())));
  }
}

TEST(LanesTree, HalvesEightFourTwoOne) {
  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  for (int trial = 0; trial < 1000; ++trial) {
    float v[kLanes];
    for (float& x : v) x = normal(random);
    float a[8], b[4], c[2];
    for (int i = 0; i < 8; ++i) a[i] = v[i] + v[i + 8];
    for (int i = 0; i < 4; ++i) b[i] = a[i] + a[i + 4];
    for (int i = 0; i < 2; ++i) c[i] = b[i] + b[i + 2];
    const float expected = c[0] + c[1];
    for (const Isa isa : supported_isas()) EXPECT_EQ(kSum[isa](v), expected) << name(isa);
  }
}

void expect_loads_equal(DType dtype, const std::vector<std::byte>& row, std::int64_t n, std::uint32_t pattern) {
  std::vector<float> expected(static_cast<std::size_t>(n)), got(static_cast<std::size_t>(n));
  dequantize_row(dtype, row.data(), n, expected.data());
  for (const Isa isa : supported_isas()) {
    kLoad[isa](dtype, row.data(), n, got.data());
    for (std::size_t i = 0; i < got.size(); ++i) {
      if (std::isnan(expected[i])) {
        ASSERT_TRUE(std::isnan(got[i])) << name(dtype) << ' ' << name(isa) << " pattern " << pattern;
      } else {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(got[i]), std::bit_cast<std::uint32_t>(expected[i]))
            << name(dtype) << ' ' << name(isa) << " pattern " << pattern << " element " << i;
      }
    }
  }
}

/// Binary16 patterns as numbers and as scales of random codes: loads equal core's dequantisation, NaN for NaN, signs of zeros
/// too.
TEST(LanesLoad, EqualsDequantizeRow) {
  for (const DType dtype : weight_dtypes()) {
    const DTypeInfo& info = dtype_info(dtype);
    const std::int64_t n = std::max<std::int64_t>(64, 2 * info.block_elems);
    std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(dtype, n)));
    std::mt19937 random(2);
    for (std::uint32_t pattern = 0; pattern<65536; pattern += n> 64 ? 13 : 3) {
      for (std::byte& byte : row) byte = static_cast<std::byte>(random());
      for (std::int64_t block = 0; block < n / info.block_elems; ++block) {
        for (const std::int64_t offset : scale_offsets(dtype)) {
          const auto half = static_cast<std::uint16_t>(pattern + static_cast<std::uint32_t>(block + 8 * offset));
          std::memcpy(row.data() + block * info.block_bytes + offset, &half, sizeof half);
        }
      }
      if (dtype == DType::f16 || dtype == DType::bf16) {
        for (std::int64_t i = 0; i < n; ++i) {
          const auto half = static_cast<std::uint16_t>(pattern + static_cast<std::uint32_t>(i));
          std::memcpy(row.data() + 2 * i, &half, sizeof half);
        }
      }
      expect_loads_equal(dtype, row, n, pattern);
      if (::testing::Test::HasFatalFailure()) return;
    }
  }
}

TEST(LanesLoad, RoundsDoublesHalfToEven) {
  std::vector<double> row(32);
  for (std::size_t i = 0; i < row.size(); ++i) row[i] = 1.0 + static_cast<double>(i) * 0x1p-25;
  for (const Isa isa : supported_isas()) {
    float got[32];
    kLoad[isa](DType::f64, reinterpret_cast<const std::byte*>(row.data()), 32, got);
    for (std::size_t i = 0; i < row.size(); ++i) {
      const double step =
          std::nearbyint(static_cast<double>(i) / 4);  // floats above 1 are 4 such steps apart; nearbyint ties to even
      EXPECT_EQ(got[i], static_cast<float>(1.0 + step * 0x1p-23)) << name(isa) << ' ' << i;
    }
  }
}

}  // namespace
}  // namespace greta::test
#endif
