// Route `q8`: quantised activations and integer matrix products against their definitions, computed here in the plainest way,
// over every weight type, instruction set, number of rows and threads.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "core/activation_blocks.h"
#include "core/blocks.h"
#include "core/error.h"
#include "tests/ops/harness.h"

namespace greta::test {
namespace {

RouteTable q8_routes() { return select_routes("q8", RouteShape{1}, {}); }

/// A matrix of random codes whose scales (and minima) are moderate numbers.
std::vector<std::byte> random_blocks(DType dtype, std::int64_t n_blocks, std::mt19937_64& random) {
  std::uniform_int_distribution<int> byte(0, 255);
  std::normal_distribution<float> scale(0.0f, 0.02f);
  const auto size = static_cast<std::size_t>(dtype_info(dtype).block_bytes);
  std::vector<std::byte> bytes(static_cast<std::size_t>(n_blocks) * size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(byte(random));
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    for (const std::int64_t offset : scale_offsets(dtype)) {
      const std::uint16_t half = f32_to_f16(scale(random));
      std::memcpy(bytes.data() + at + offset, &half, sizeof half);
    }
  }
  return bytes;
}

/// Quantised rows with large and small blocks, among them blocks of zeros.
Tensor quantised_rows(std::int64_t n_rows, std::int64_t n_cols, std::mt19937_64& random) {
  Tensor x(DType::f32, n_rows, n_cols), out(DType::q8_f32, n_rows, n_cols);
  std::normal_distribution<double> normal;
  for (std::int64_t r = 0; r < n_rows; ++r) {
    for (std::int64_t b = 0; b < n_cols / 32; ++b) {
      const double size = (r + b) % 7 == 3 ? 0.0 : std::exp(2 * normal(random));
      for (std::int64_t i = 0; i < 32; ++i) x.set(r, b * 32 + i, size * normal(random));
    }
    quantize_activations(x.view().row_as<float>(r), n_cols, out.view().row(r));
  }
  return out;
}

/// Scale and minimum of a sub-block of a weight row, and its codes less their offset, from the dequantised elements alone: not
/// from the unpacking under test. `scale` is what the format says that neighbouring codes differ by.
struct Plain {
  std::vector<double> weights;  // [n_out * n_in]
};

Plain plain_weights(DType dtype, const std::vector<std::byte>& bytes, std::int64_t n_out, std::int64_t n_in) {
  Plain plain;
  std::vector<float> row(static_cast<std::size_t>(n_in));
  for (std::int64_t o = 0; o < n_out; ++o) {
    dequantize_row(dtype, bytes.data() + o * row_bytes(dtype, n_in), n_in, row.data());
    plain.weights.insert(plain.weights.end(), row.begin(), row.end());
  }
  return plain;
}

class Q8 : public testing::TestWithParam<DType> {};

/// Exact products in double, and how far the route may be from them: for each block one rounding of the scale, one of each term
/// and one of each sum in F32; `size` is the sum of the terms' magnitudes, minima apart.
TEST_P(Q8, IsTheProductOfTheDequantisedOperands) {
  const DType dtype = GetParam();
  std::mt19937_64 random(static_cast<std::uint64_t>(dtype) + 7);
  for (const auto& [n_in, n_out, n_rows] :
       {std::tuple<std::int64_t, std::int64_t, std::int64_t>{512, 37, 1}, {256, 16, 5}, {768, 3, 21}}) {
    const std::vector<std::byte> bytes = random_blocks(dtype, n_in * n_out / dtype_info(dtype).block_elems, random);
    const WeightView weight{"w", dtype, n_out, n_in, bytes.data(), WeightLayout::row_major};
    const Plain plain = plain_weights(dtype, bytes, n_out, n_in);
    const Tensor x = quantised_rows(n_rows, n_in, random), out(DType::f32, n_rows, n_out);
    const std::vector<RowId> rows = rows_from(0, n_rows);
    ThreadPool pool(2);
    const auto ops = make_cpu_ops({.routes = q8_routes(), .isa = best_isa(), .pool = pool});
    ops->matmul({Stage::q, 0, rows}, x.view(), weight, {}, out.view());
    std::vector<double> input(static_cast<std::size_t>(n_in));
    for (std::int64_t r = 0; r < n_rows; ++r) {
      dequantize_activations(x.view().row(r), n_in, input.data());
      for (std::int64_t o = 0; o < n_out; ++o) {
        double dot = 0, size = 0;
        for (std::int64_t i = 0; i < n_in; ++i) {
          const double w = plain.weights[static_cast<std::size_t>(o * n_in + i)];
          dot += input[static_cast<std::size_t>(i)] * w;
          size += std::fabs(input[static_cast<std::size_t>(i)] * w);
        }
        // Codes and minima apart can be larger than the element that they give: 16 times covers offsets and minima of 6 bits.
        EXPECT_NEAR(out.get(r, o), dot, 16 * size * kUnit32 * (3 + static_cast<double>(n_in) / 16))
            << name(dtype) << " " << r << " " << o;
      }
    }
  }
}

/// Rows, threads and instruction sets give the same bits; the scalar route on one thread, all rows at once, is what they must
/// equal.
TEST_P(Q8, TheBitsDoNotDependOnRowsThreadsOrInstructionSet) {
  const DType dtype = GetParam();
  std::mt19937_64 random(static_cast<std::uint64_t>(dtype) + 70);
  const std::int64_t block = dtype_info(dtype).block_elems;
  for (int round = 0; round < 4; ++round) {
    const auto pick = [&](std::int64_t low, std::int64_t high) {
      return std::uniform_int_distribution<std::int64_t>(low, high)(random);
    };
    const std::int64_t n_in = block * pick(1, block == 32 ? 20 : 4), n_out = pick(1, 70), n_rows = pick(1, 30);
    const std::vector<std::byte> bytes = random_blocks(dtype, n_in * n_out / block, random);
    const WeightView weight{"w", dtype, n_out, n_in, bytes.data(), WeightLayout::row_major};
    const Weight bias(DType::f32, 1, n_out, random);
    const Tensor x = quantised_rows(n_rows, n_in, random);
    const std::vector<RowId> rows = rows_from(0, n_rows);
    const auto compute = [&](Isa isa, int threads, std::int64_t chunk, const Tensor& out) {
      ThreadPool pool(threads);
      const auto ops = make_cpu_ops({.routes = q8_routes(), .isa = isa, .pool = pool});
      for (std::int64_t begin = 0; begin < n_rows; begin += chunk) {
        const std::int64_t n = std::min(chunk, n_rows - begin);
        ops->matmul({Stage::q, 0, std::span(rows).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(n))},
                    x.rows(begin, n), weight, bias.view(), out.rows(begin, n));
      }
    };
    const Tensor expected(DType::f32, n_rows, n_out);
    compute(Isa::scalar, 1, 1 << 20, expected);
    for (const Isa isa : supported_isas()) {
      for (const auto& [threads, chunk] : {std::pair<int, std::int64_t>{1, 1000}, {1, 1}, {2, 1000}, {3, 2}, {3, 7}, {2, 3}}) {
        const Tensor got(DType::f32, n_rows, n_out);
        compute(isa, threads, chunk, got);
        ASSERT_EQ(std::memcmp(got.bytes().data(), expected.bytes().data(), got.bytes().size()), 0)
            << name(dtype) << " in " << n_in << " out " << n_out << " rows " << n_rows << " on " << name(isa) << ", " << threads
            << " threads, " << chunk << " rows a call";
      }
    }
  }
}

std::vector<DType> block_types() {
  std::vector<DType> types;
  for (const DType dtype : weight_dtypes()) {
    if (is_block_type(dtype)) types.push_back(dtype);
  }
  return types;
}
INSTANTIATE_TEST_SUITE_P(Types, Q8, testing::ValuesIn(block_types()),
                         [](const auto& one) { return std::string(name(one.param)); });

/// Every code and scale by hand: two blocks of Q8_0, the largest magnitudes, the sum in F32 as q8.h says it.
TEST(Q8Matmul, AddsBlocksInOrderWithOneRoundingOfTheScale) {
  BlockQ8_0 weights[2]{};
  BlockQ8F32 inputs[2]{};
  for (int i = 0; i < 32; ++i) {
    weights[0].q[i] = -128;
    inputs[0].q[i] = -127;
    weights[1].q[i] = static_cast<std::int8_t>(i - 16);
    inputs[1].q[i] = static_cast<std::int8_t>(3 * i - 40);
  }
  weights[0].d = f32_to_f16(0.3f);
  weights[1].d = f32_to_f16(-1.7f);
  inputs[0].d = 0.1f;
  inputs[1].d = 1e3f / 3;
  float expected = 0;
  for (int b = 0; b < 2; ++b) {
    int sum = 0;
    for (int i = 0; i < 32; ++i) sum += weights[b].q[i] * inputs[b].q[i];
    expected = std::fma(f16_to_f32(weights[b].d) * inputs[b].d, static_cast<float>(sum), expected);
  }
  TensorView x;
  x.data = reinterpret_cast<std::byte*>(inputs);
  x.dtype = DType::q8_f32;
  x.n_rows = 1;
  x.n_cols = 64;
  x.row_stride = sizeof inputs;
  const WeightView weight{"w", DType::q8_0, 1, 64, reinterpret_cast<const std::byte*>(weights), WeightLayout::row_major};
  const std::vector<RowId> rows = rows_from(0, 1);
  for (const Isa isa : supported_isas()) {
    const Tensor out(DType::f32, 1, 1);
    ThreadPool pool(1);
    make_cpu_ops({.routes = q8_routes(), .isa = isa, .pool = pool})->matmul({Stage::q, 0, rows}, x, weight, {}, out.view());
    EXPECT_EQ(out.get(0, 0), static_cast<double>(expected)) << name(isa);
  }
}

TEST(Quantize, CodesAreTheNearestAndTheLargestIs127) {
  std::mt19937_64 random(5);
  std::normal_distribution<float> normal;
  std::vector<float> x(32 * 300);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = normal(random) * std::exp2(static_cast<float>(i / 32 % 60) - 30.0f);
  std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(DType::q8_f32, static_cast<std::int64_t>(x.size()))));
  quantize_activations(x.data(), static_cast<std::int64_t>(x.size()), row.data());
  const auto* blocks = reinterpret_cast<const BlockQ8F32*>(row.data());
  for (std::size_t b = 0; b < x.size() / 32; ++b) {
    float largest = 0;
    int top = 0;
    for (std::size_t i = 0; i < 32; ++i) {
      largest = std::max(largest, std::fabs(x[b * 32 + i]));
      top = std::max(top, std::abs(blocks[b].q[i]));
      // Nearest: no code is nearer, up to the rounding of x / d.
      const double exact = static_cast<double>(x[b * 32 + i]) / static_cast<double>(blocks[b].d);
      EXPECT_LE(std::fabs(exact - blocks[b].q[i]), 0.5 + 1e-5);
    }
    EXPECT_EQ(blocks[b].d, largest / 127.0f);
    EXPECT_EQ(top, 127);
  }
}

TEST(Quantize, TiesGoToEvenAndOddBlocksAreNamed) {
  float x[32 * 5] = {};
  x[0] = 127.0f;  // d = 1
  x[1] = 0.5f;
  x[2] = 1.5f;
  x[3] = -2.5f;
  x[32 + 4] = std::numeric_limits<float>::infinity();
  x[64 + 4] = std::numeric_limits<float>::quiet_NaN();
  x[96] = 200 * 0x1p-149f;  // d = 2 * 2^-149 by rounding, codes 100
  x[97] = -0x1p-149f;       // a tie: 0
  BlockQ8F32 blocks[5];
  quantize_activations(x, 160, reinterpret_cast<std::byte*>(blocks));
  EXPECT_EQ(blocks[0].d, 1.0f);
  EXPECT_EQ(blocks[0].q[1], 0);
  EXPECT_EQ(blocks[0].q[2], 2);
  EXPECT_EQ(blocks[0].q[3], -2);
  for (const int b : {1, 2}) {
    EXPECT_TRUE(std::isnan(blocks[b].d));
    double values[32];
    dequantize_activations(reinterpret_cast<const std::byte*>(blocks + b), 32, values);
    for (const double value : values) EXPECT_TRUE(std::isnan(value));
  }
  EXPECT_EQ(blocks[3].d, 0x1p-148f);
  EXPECT_EQ(blocks[3].q[0], 100);
  EXPECT_EQ(blocks[3].q[1], 0);
  EXPECT_EQ(blocks[4].d, 0.0f);
  EXPECT_EQ(blocks[4].q[0], 0);
}

TEST(Quantize, EveryRouteGivesTheDefinitionsBytes) {
  std::mt19937_64 random(6);
  const std::int64_t n_rows = 7, n_cols = 32 * 150;
  Tensor x(DType::f32, n_rows, n_cols);
  std::normal_distribution<double> normal;
  for (std::int64_t r = 0; r < n_rows; ++r) {
    for (std::int64_t c = 0; c < n_cols; ++c)
      x.set(r, c, normal(random) * std::exp2(static_cast<double>((c / 32 + r) % 300) - 155));
  }
  x.set(2, 50, std::numeric_limits<double>::infinity());
  x.set(3, 4000, std::numeric_limits<double>::quiet_NaN());
  x.set(4, 0, std::numeric_limits<float>::max());
  Tensor expected(DType::q8_f32, n_rows, n_cols);
  for (std::int64_t r = 0; r < n_rows; ++r) quantize_activations(x.view().row_as<float>(r), n_cols, expected.view().row(r));
  const std::vector<RowId> rows = rows_from(0, n_rows);
  for (const Arm& arm : all_arms()) {
    if (arm.activations != DType::f32 || !arm.runs_here()) continue;
    const Tensor out(DType::q8_f32, n_rows, n_cols);
    ArmOps(arm)->quantize({Stage::attn_norm_q8, 0, rows}, x.view(), out.view());
    for (std::int64_t r = 0; r < n_rows; ++r) {
      const auto* got = out.view().row_as<BlockQ8F32>(r);
      const auto* want = expected.view().row_as<BlockQ8F32>(r);
      for (std::int64_t b = 0; b < n_cols / 32; ++b)
        ASSERT_EQ(std::memcmp(got + b, want + b, sizeof *got), 0)
            << arm.label() << " row " << r << " block " << b << ": d " << got[b].d << " instead of " << want[b].d;
    }
  }
}

TEST(Q8Matmul, OtherRoutesReadTheSameBytes) {
  std::mt19937_64 random(8);
  const std::int64_t n_in = 512, n_out = 20, n_rows = 12;
  const Weight weight(DType::q8_0, n_out, n_in, random), plain(DType::f16, n_out, n_in, random);
  const Tensor x = quantised_rows(n_rows, n_in, random);
  const std::vector<RowId> rows = rows_from(0, n_rows);
  std::vector<double> input(static_cast<std::size_t>(n_in));
  for (const RouteId route : {RouteId::reference, RouteId::float64, RouteId::q8}) {
    ThreadPool pool(2);
    RouteTable routes = q8_routes();
    routes.route[static_cast<std::size_t>(OpKind::matmul)] = route;
    const auto ops = make_cpu_ops({.routes = routes, .isa = best_isa(), .pool = pool});
    for (const WeightView& w : {weight.view(), weight.transposed(), plain.view()}) {
      const Tensor out(DType::f32, n_rows, n_out);
      ops->matmul({Stage::q, 0, rows}, x.view(), w, {}, out.view());
      const Weight& values = w.dtype == DType::f16 ? plain : weight;
      for (std::int64_t r = 0; r < n_rows; ++r) {
        dequantize_activations(x.view().row(r), n_in, input.data());
        for (std::int64_t o = 0; o < n_out; ++o) {
          double dot = 0, size = 0;
          for (std::int64_t i = 0; i < n_in; ++i) {
            const double product = input[static_cast<std::size_t>(i)] *
                                   (w.layout == WeightLayout::transposed ? values.flat(i * n_out + o) : values.value(o, i));
            dot += product;
            size += std::fabs(product);
          }
          const double unit = route == RouteId::float64 ? kUnit64 * 16 + kUnit32 : kUnit32;
          EXPECT_NEAR(out.get(r, o), dot, 40 * unit * size) << name(route) << " " << name(w.dtype);
        }
      }
    }
  }
}

TEST(Q8Matmul, RefusesWhatDoesNotFit) {
  std::mt19937_64 random(9);
  const Weight weight(DType::q8_0, 4, 64, random);
  const Tensor x = quantised_rows(1, 32, random), plain(DType::f32, 1, 64), out(DType::f32, 1, 4),
               short_out(DType::q8_f32, 1, 32);
  const std::vector<RowId> rows = rows_from(0, 1);
  ThreadPool pool(1);
  const auto ops = make_cpu_ops({.routes = q8_routes(), .isa = best_isa(), .pool = pool});
  EXPECT_THROW(ops->matmul({Stage::q, 0, rows}, x.view(), weight.view(), {}, out.view()), Error);
  EXPECT_THROW(ops->quantize({Stage::q, 0, rows}, plain.view(), out.view()), Error);
  EXPECT_THROW(ops->quantize({Stage::q, 0, rows}, plain.view(), short_out.view()), Error);
  EXPECT_THROW(ops->add({Stage::q, 0, rows}, x.view(), x.view(), x.view()), Error);
}

}  // namespace
}  // namespace greta::test
