// Route `q8` of matmul: bit-equal to the CPU's, for every weight type, few rows and many.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "core/activation_blocks.h"
#include "core/blocks.h"
#include "core/error.h"
#include "core/half.h"
#include "ops/cpu_ops.h"
#include "ops/gpu/emulated_blocks.h"
#include "tests/gpu/devices.h"

namespace greta::gpu {
namespace {

/// Random codes under moderate scales; some scales are negative, some 0, some minima too.
std::vector<std::byte> random_blocks(DType dtype, std::int64_t n_blocks, std::mt19937_64& random) {
  std::uniform_int_distribution<int> byte(0, 255);
  std::normal_distribution<float> scale(0.0f, 0.02f);
  const auto size = static_cast<std::size_t>(dtype_info(dtype).block_bytes);
  std::vector<std::byte> bytes(static_cast<std::size_t>(n_blocks) * size);
  for (std::byte& b : bytes) b = static_cast<std::byte>(byte(random));
  for (std::size_t at = 0; at < bytes.size(); at += size) {
    for (const std::int64_t offset : scale_offsets(dtype)) {
      const std::uint16_t half = byte(random) < 8 ? std::uint16_t{0} : f32_to_f16(scale(random));
      std::memcpy(bytes.data() + at + offset, &half, sizeof half);
    }
  }
  return bytes;
}

/// Operands on the host. Rows of x are `x_stride` bytes apart, with 0xff between them.
struct Q8Product {
  DType dtype;
  std::int64_t n_rows, n_in, n_out, x_stride;
  std::vector<std::byte> x, weight;
  std::vector<float> bias;

  Q8Product(DType type, std::int64_t rows, std::int64_t in, std::int64_t out, std::int64_t padding, std::uint64_t seed)
      : dtype(type), n_rows(rows), n_in(in), n_out(out), x_stride(row_bytes(DType::q8_f32, in) + padding) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    x.assign(static_cast<std::size_t>(rows * x_stride), std::byte{0xff});
    std::vector<float> row(static_cast<std::size_t>(in));
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::size_t i = 0; i < row.size(); ++i)
        row[i] = (i / 32 + static_cast<std::size_t>(r)) % 7 == 3 ? 0 : normal(random);
      quantize_activations(row.data(), in, x.data() + r * x_stride);
    }
    weight = random_blocks(type, in * out / dtype_info(type).block_elems, random);
    for (std::int64_t o = 0; o < out; ++o) bias.push_back(normal(random));
  }

  /// By the CPU's scalar route.
  std::vector<float> expected(bool with_bias) const {
    std::vector<float> out(static_cast<std::size_t>(n_rows * n_out));
    std::vector<RowId> ids(static_cast<std::size_t>(n_rows));
    for (std::size_t r = 0; r < ids.size(); ++r) ids[r].position = static_cast<std::int32_t>(r);
    const auto view = [&](const void* data, DType type, std::int64_t cols, std::int64_t stride) {
      TensorView tensor;
      tensor.data = static_cast<std::byte*>(const_cast<void*>(data));
      tensor.dtype = type;
      tensor.n_rows = n_rows;
      tensor.n_cols = cols;
      tensor.row_stride = stride;
      tensor.rows = ids;
      return tensor;
    };
    ThreadPool pool(1);
    const auto ops = make_cpu_ops({.routes = select_routes("q8", RouteShape{n_rows}, {}), .isa = Isa::scalar, .pool = pool});
    const WeightView b{"b", DType::f32, 1, n_out, reinterpret_cast<const std::byte*>(bias.data()), WeightLayout::row_major};
    ops->matmul({Stage::q, 0, ids}, view(x.data(), DType::q8_f32, n_in, x_stride),
                {"w", dtype, n_out, n_in, weight.data(), WeightLayout::row_major}, with_bias ? b : WeightView{},
                view(out.data(), DType::f32, n_out, n_out * 4));
    return out;
  }
};

class MatmulQ8 : public DeviceTest {
 protected:
  ~MatmulQ8() override { emulation::set_schedule(emulation::Order::forward); }

  /// Rows [first, first + n) of the product, [n][n_out].
  std::vector<float> compute(const Q8Product& p, std::int64_t first, std::int64_t n, KernelFault fault = KernelFault::none,
                             bool with_bias = true) {
    const DeviceArray<std::byte> x(device(), p.x), weight(device(), p.weight);
    const DeviceArray<float> bias(device(), p.bias);
    const std::vector<float> unwritten(static_cast<std::size_t>(n * p.n_out), std::numeric_limits<float>::quiet_NaN());
    const DeviceArray<float> out(device(), unwritten);
    MatmulArgs args{.route = RouteId::q8,
                    .x = {x.bytes() + first * p.x_stride, DType::q8_f32, p.n_in, p.x_stride},
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
};

std::vector<DType> block_types() {
  std::vector<DType> types;
  for (const DType dtype : weight_dtypes())
    if (is_block_type(dtype)) types.push_back(dtype);
  return types;
}

TEST_P(MatmulQ8, HasTheBitsOfTheCpu) {
  for (const DType dtype : block_types()) {
    const std::int64_t block = dtype_info(dtype).block_elems;
    // Segments of 32 and of 64 slices begun and not ended; odd numbers of blocks, of outputs and of rows.
    for (const std::int64_t rows : {1, 3, 17}) {
      for (const std::int64_t blocks : block == 32 ? std::vector<std::int64_t>{1, 5, 43} : std::vector<std::int64_t>{1, 5}) {
        const Q8Product p(dtype, rows, block * blocks, rows == 17 ? 37 : 9, rows == 3 ? 12 : 0,
                          static_cast<std::uint64_t>(blocks));
        const bool with_bias = blocks != 5;
        const std::vector<float> expected = p.expected(with_bias);
        const std::vector<float> out = compute(p, 0, rows, KernelFault::none, with_bias);
        ASSERT_EQ(std::memcmp(out.data(), expected.data(), out.size() * sizeof(float)), 0)
            << name(dtype) << ", " << rows << " rows of " << p.n_in << ", seed " << blocks;
      }
    }
  }
}

/// Longer than the part of x that few rows keep in shared memory.
TEST_P(MatmulQ8, HasTheBitsOfTheCpuInLongSums) {
  for (const std::int64_t rows : {1, 5}) {
    const Q8Product p(DType::q8_0, rows, 32 * 300, 5, 4, 3);
    const std::vector<float> expected = p.expected(true);
    EXPECT_EQ(std::memcmp(compute(p, 0, rows).data(), expected.data(), expected.size() * sizeof(float)), 0) << rows;
  }
}

TEST_P(MatmulQ8, ARowHasTheSameBitsAmongAnyOthers) {
  for (const DType dtype : {DType::q4_0, DType::q4_k, DType::q6_k}) {
    const Q8Product p(dtype, 70, 512, 20, 0, 8);
    const std::vector<float> expected = p.expected(true);
    for (const std::int64_t n : {1, 2, 7, 8, 9, 16, 64, 65, 70}) {
      for (std::int64_t first = 0; first + n <= 70; first += n < 20 ? 29 : 5) {
        const std::vector<float> some = compute(p, first, n);
        ASSERT_EQ(std::memcmp(some.data(), expected.data() + first * p.n_out, some.size() * sizeof(float)), 0)
            << name(dtype) << ", " << n << " rows from " << first;
      }
    }
  }
}

/// Outputs and rows of several tiles; the next to last tile is whole.
TEST_P(MatmulQ8, HasTheBitsOfTheCpuInSeveralTiles) {
  const Q8Product p(DType::q4_1, 130, 96, 258, 0, 4);
  const std::vector<float> expected = p.expected(true);
  EXPECT_EQ(std::memcmp(compute(p, 0, 130).data(), expected.data(), expected.size() * sizeof(float)), 0);
}

TEST_P(MatmulQ8, TheOrderOfThreadsDoesNotMatter) {
  if (!emulated()) GTEST_SKIP() << "hardware takes no order";
  for (const std::int64_t rows : {1, 5, 20}) {
    const Q8Product p(DType::q4_k, rows, 2560, 20, 0, 11);
    const std::vector<float> expected = p.expected(true);
    for (const auto order : {emulation::Order::reverse, emulation::Order::shuffled}) {
      emulation::set_schedule(order, 3);
      EXPECT_EQ(std::memcmp(compute(p, 0, rows).data(), expected.data(), expected.size() * sizeof(float)), 0) << rows;
    }
    emulation::set_schedule(emulation::Order::forward);
  }
}

TEST_P(MatmulQ8, ABlockThatIsNotANumberGivesNaN) {
  for (const std::int64_t rows : {1, 20}) {
    Q8Product p(DType::q6_k, rows, 256, 5, 0, 2);
    const float nan = std::numeric_limits<float>::quiet_NaN();
    std::memcpy(p.x.data() + 3 * 36, &nan, sizeof nan);
    const std::vector<float> out = compute(p, 0, rows);
    for (std::size_t o = 0; o < out.size(); ++o) EXPECT_EQ(std::isnan(out[o]), o < 5) << o;
  }
}

TEST_P(MatmulQ8, FaultsShow) {
  for (const std::int64_t rows : {1, 3, 20}) {
    const Q8Product p(DType::q4_0, rows, 1600, 20, 0, 6);
    const std::vector<float> expected = p.expected(true);
    for (const KernelFault fault : {KernelFault::f16_accumulation, KernelFault::wrong_wave_size}) {
      if (fault == KernelFault::wrong_wave_size && rows > 16) continue;  // no reduction there
      EXPECT_NE(std::memcmp(compute(p, 0, rows, fault).data(), expected.data(), expected.size() * sizeof(float)), 0)
          << static_cast<int>(fault) << " in " << rows << " rows";
    }
    EXPECT_THROW(compute(p, 0, rows, KernelFault::merge_stride), Error);
  }
}

GRETA_ON_ALL_DEVICES(MatmulQ8);

}  // namespace
}  // namespace greta::gpu
