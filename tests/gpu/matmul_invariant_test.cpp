// Route `invariant` of matmul: against float64, and against itself: a row has the same bits among any others.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "core/error.h"
#include "core/half.h"
#include "ops/gpu/emulated_blocks.h"
#include "tests/gpu/devices.h"

namespace greta::gpu {
namespace {

std::uint16_t half_of(DType dtype, float value) { return dtype == DType::f16 ? f32_to_f16(value) : f32_to_bf16(value); }
double value_of(DType dtype, std::uint16_t half) {
  return static_cast<double>(dtype == DType::f16 ? f16_to_f32(half) : bf16_to_f32(half));
}

/// Operands on the host. Rows of x are `x_stride` elements apart; what lies between them is NaN.
struct Product {
  DType dtype;
  std::int64_t n_rows, n_in, n_out, x_stride;
  std::vector<std::uint16_t> x, weight;
  std::vector<float> bias;

  /// `spread`: how many powers of two below 1 the factors reach; sums of such terms show how an instruction rounds.
  Product(DType type, std::int64_t rows, std::int64_t in, std::int64_t out, std::int64_t padding, std::uint64_t seed,
          int spread = 0)
      : dtype(type), n_rows(rows), n_in(in), n_out(out), x_stride(in + padding) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    std::uniform_int_distribution<int> power(-spread, 0);
    const auto number = [&](float scale) { return half_of(type, std::ldexp(scale * normal(random), power(random))); };
    x.assign(static_cast<std::size_t>(rows * x_stride), 0xffff);
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t i = 0; i < in; ++i) x[static_cast<std::size_t>(r * x_stride + i)] = number(1);
    for (std::int64_t i = 0; i < in * out; ++i) weight.push_back(number(0.1f));
    for (std::int64_t o = 0; o < out; ++o) bias.push_back(normal(random));
  }
  double x_at(std::int64_t r, std::int64_t i) const { return value_of(dtype, x[static_cast<std::size_t>(r * x_stride + i)]); }
  double weight_at(std::int64_t o, std::int64_t i) const {
    return value_of(dtype, weight[static_cast<std::size_t>(o * n_in + i)]);
  }
};

class MatmulInvariant : public DeviceTest {
 protected:
  ~MatmulInvariant() override { emulation::set_schedule(emulation::Order::forward); }

  /// Rows [first, first + n) of the product, [n][n_out].
  std::vector<float> compute(const Product& p, std::int64_t first, std::int64_t n, KernelFault fault = KernelFault::none,
                             bool with_bias = true) {
    const DeviceArray<std::uint16_t> x(device(), p.x), weight(device(), p.weight);
    const DeviceArray<float> bias(device(), p.bias);
    const std::vector<float> unwritten(static_cast<std::size_t>(n * p.n_out), std::numeric_limits<float>::quiet_NaN());
    const DeviceArray<float> out(device(), unwritten);
    MatmulArgs args{.route = RouteId::invariant,
                    .x = {x.bytes() + first * p.x_stride * 2, p.dtype, p.n_in, p.x_stride * 2},
                    .out = {out.bytes(), DType::f32, p.n_out, p.n_out * 4},
                    .weight = {weight.bytes(), p.dtype, p.n_out, p.n_in},
                    .bias = with_bias ? bias.get() : nullptr,
                    .n_rows = static_cast<std::int32_t>(n),
                    .fault = fault};
    const DeviceArray<std::byte> scratch(device(), device().kernels().matmul_scratch(args) + 1);
    args.scratch = scratch.bytes();
    device().kernels().matmul(stream(), args);
    return out.download();
  }

  /// Every output of every row: within the bound, or `wrong` says how many are not.
  void check_against_float64(const Product& p, const std::vector<float>& out, bool with_bias, std::int64_t* wrong = nullptr) {
    for (std::int64_t r = 0; r < p.n_rows; ++r) {
      for (std::int64_t o = 0; o < p.n_out; ++o) {
        double dot = with_bias ? static_cast<double>(p.bias[static_cast<std::size_t>(o)]) : 0, size = std::fabs(dot);
        for (std::int64_t i = 0; i < p.n_in; ++i) {
          dot += p.x_at(r, i) * p.weight_at(o, i);
          size += std::fabs(p.x_at(r, i) * p.weight_at(o, i));
        }
        // Every addition rounds (or, in a matrix instruction, truncates) what is summed so far, which is a small part of the
        // magnitudes where signs are random: 8 * 2^-23 of these is never reached, and sums kept in binary16 are far above it.
        const double error = std::fabs(static_cast<double>(out[static_cast<std::size_t>(r * p.n_out + o)]) - dot);
        const bool good = error <= 8 * size * 0x1p-23;
        if (wrong != nullptr)
          *wrong += good ? 0 : 1;
        else
          ASSERT_TRUE(good) << p.n_rows << " rows of " << p.n_in << ", row " << r << " output " << o << " is "
                            << out[static_cast<std::size_t>(r * p.n_out + o)] << ", float64 gives " << dot << ", magnitudes "
                            << size;
      }
    }
  }
};

struct Shape {
  std::int64_t rows, in, out, padding;
};

TEST_P(MatmulInvariant, IsTheProductWithinItsRounding) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    // Aligned and not, chunks begun and not ended, outputs that fill no tile; few rows and many.
    for (const auto& [rows, in, out, padding] : {Shape{1, 32, 16, 0},
                                                 {1, 1, 1, 0},
                                                 {3, 576, 40, 0},
                                                 {2, 1100, 17, 3},
                                                 {8, 96, 37, 32},
                                                 {9, 88, 21, 8},
                                                 {17, 70, 33, 1},
                                                 {33, 520, 20, 0},
                                                 {70, 40, 70, 8},
                                                 {65, 75, 19, 0}}) {
      const Product p(dtype, rows, in, out, padding, static_cast<std::uint64_t>(rows * in));
      for (const bool with_bias : {false, true})
        check_against_float64(p, compute(p, 0, rows, KernelFault::none, with_bias), with_bias);
    }
  }
}

/// A long sum, of more chunks than are merged at once.
TEST_P(MatmulInvariant, AddsManyChunks) {
  const Product p(DType::bf16, 1, 34 * 512 + 40, 3, 0, 5);
  check_against_float64(p, compute(p, 0, 1), true);
}

TEST_P(MatmulInvariant, ARowHasTheSameBitsAmongAnyOthers) {
  for (const auto& [rows, in, out, padding] : {Shape{70, 1064, 35, 8}, {70, 75, 20, 1}}) {
    const Product p(DType::bf16, rows, in, out, padding, 9);
    const std::vector<float> all = compute(p, 0, rows);
    for (const std::int64_t n : {1, 2, 7, 8, 9, 16, 64, 65}) {
      for (std::int64_t first = 0; first + n <= rows; first += n < 3 ? 23 : n < 10 ? 31 : 5) {
        const std::vector<float> some = compute(p, first, n);
        ASSERT_EQ(std::memcmp(some.data(), all.data() + first * out, some.size() * sizeof(float)), 0)
            << n << " rows from " << first << ", " << in << " inputs";
      }
    }
  }
}

/// Enough outputs for the large tiles of many rows, which may use other instructions: terms of many sizes then, and whole
/// chunks.
TEST_P(MatmulInvariant, LargeTilesGiveTheSameBits) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const int spread : {0, 6, 12}) {
      if (emulated() && (spread > 0 || dtype == DType::bf16)) continue;  // slow there, and nothing else is asked
      const Product p(dtype, 130, emulated() ? 40 : 2632, 66 * 128 + 5, 0, 10, spread);
      const std::vector<float> all = compute(p, 0, 130);
      for (const auto& [first, n] : {std::pair<std::int64_t, std::int64_t>{0, 1}, {127, 3}, {60, 30}, {0, 33}}) {
        if (emulated() && n > 3) continue;
        const std::vector<float> some = compute(p, first, n);
        ASSERT_EQ(std::memcmp(some.data(), all.data() + first * p.n_out, some.size() * sizeof(float)), 0)
            << n << " rows from " << first << " of " << name(dtype) << ", spread " << spread;
      }
    }
  }
}

TEST_P(MatmulInvariant, TheOrderOfThreadsDoesNotMatter) {
  if (!emulated()) GTEST_SKIP() << "hardware takes no order";
  for (const std::int64_t rows : {2, 40}) {
    const Product p(DType::bf16, rows, 1100, 20, 4, 11);
    const std::vector<float> forward = compute(p, 0, rows);
    for (const auto order : {emulation::Order::reverse, emulation::Order::shuffled}) {
      emulation::set_schedule(order, 3);
      EXPECT_EQ(std::memcmp(compute(p, 0, rows).data(), forward.data(), forward.size() * sizeof(float)), 0);
    }
    emulation::set_schedule(emulation::Order::forward);
  }
}

/// Faults are found by float64, in few rows and in many.
TEST_P(MatmulInvariant, FaultsShow) {
  struct Fault {
    KernelFault fault;
    bool in_many_rows;
  };
  for (const auto& [fault, in_many_rows] :
       {Fault{KernelFault::f16_accumulation, true}, Fault{KernelFault::unread_padding, true},
        Fault{KernelFault::merge_stride, false}, Fault{KernelFault::missing_barrier, true}}) {
    if (fault == KernelFault::missing_barrier && !emulated()) continue;  // a race may be won
    for (const std::int64_t rows : {1, 40}) {
      if (rows > 1 && !in_many_rows) continue;
      const Product p(DType::f16, rows, 1100, 40, 4, 12);
      std::int64_t wrong = 0;
      check_against_float64(p, compute(p, 0, rows, fault), true, &wrong);
      EXPECT_GT(wrong, 0) << static_cast<int>(fault) << " in " << rows << " rows";
    }
  }
}

TEST_P(MatmulInvariant, RefusesOtherTypes) {
  MatmulArgs args;
  args.route = RouteId::invariant;
  args.x.dtype = DType::f16;
  args.weight.dtype = DType::bf16;
  EXPECT_THROW(device().kernels().matmul(stream(), args), Error);
}

GRETA_ON_ALL_DEVICES(MatmulInvariant);

}  // namespace
}  // namespace greta::gpu
