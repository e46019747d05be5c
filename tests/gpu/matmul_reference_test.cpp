// The matrix product of route `reference`, bit for bit as on the CPU, for every type of weights and every number of rows.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "tests/gpu/operands.h"

namespace greta::gpu {
namespace {

class ReferenceMatmul : public DeviceTest {};

struct Product {
  int n_rows;
  WeightView weight;
  bool with_bias = false;
  bool quantised = false;  // x is q8_f32
  KernelFault fault = KernelFault::none;
};

struct Result {
  Tensor want;
  std::vector<std::byte> got;
};

Result multiply(Device& device, const Product& p, unsigned seed) {
  std::mt19937_64 random(seed);
  Tensor x(DType::f32, p.n_rows, p.weight.n_cols), want(DType::f32, p.n_rows, p.weight.n_rows);
  x.fill_normal(random);
  sprinkle(x, {-0.0, 0x1p-149, 1e-30, -3e20});
  const std::vector<RowId> ids = test::rows_from(0, p.n_rows);
  const OpSite site{Stage::q, 0, ids};
  Tensor codes(DType::q8_f32, p.n_rows, p.quantised ? p.weight.n_cols : 32);
  if (p.quantised) cpu()->quantize(site, x.view(), codes.view());
  const Tensor& in = p.quantised ? codes : x;
  const Weight bias(DType::f32, 1, p.weight.n_rows, random);
  const PlacedWeight weight(device, p.weight), offsets(device, bias.view());
  const Placed placed(device, in), out(device, want);
  cpu()->matmul(site, in.view(), p.weight, p.with_bias ? bias.view() : WeightView{}, want.view());
  MatmulArgs args;
  args.x = placed.arg();
  args.out = out.arg();
  args.weight = weight.arg();
  args.bias = p.with_bias ? reinterpret_cast<const float*>(offsets.arg().data) : nullptr;
  args.n_rows = p.n_rows;
  args.fault = p.fault;
  EXPECT_EQ(device.kernels().matmul_scratch(args), 0u);
  device.kernels().matmul(device.stream(), args);
  return {std::move(want), out.download()};
}

TEST_P(ReferenceMatmul, EveryTypeAndNumberOfRows) {
  std::mt19937_64 random(1);
  for (const DType type : weight_dtypes()) {
    const bool super = dtype_info(type).block_elems == 256;
    const Weight weight(type, 37, is_block_type(type) ? (super ? 512 : 352) : 83, random);
    for (const int n_rows : {1, 3, 9, 34}) {
      const Result result = multiply(device(), {n_rows, weight.view(), n_rows % 2 == 1}, static_cast<unsigned>(n_rows));
      EXPECT_EQ(count_different(result.want, result.got), 0) << name(type) << ", " << n_rows << " rows";
    }
  }
}

TEST_P(ReferenceMatmul, ShapesOfPlainNumbers) {
  std::mt19937_64 random(2);
  for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
    for (const auto& [outputs, inputs] : {std::pair{1, 1}, {5, 16}, {33, 64}, {3, 200}, {9, 136}}) {
      const Weight weight(type, outputs, inputs, random);
      for (const bool transposed : {false, true}) {
        for (const int n_rows : {1, 2, 8, 33}) {
          const Result result = multiply(device(), {n_rows, transposed ? weight.transposed() : weight.view()}, 7);
          EXPECT_EQ(count_different(result.want, result.got), 0)
              << name(type) << " " << outputs << " x " << inputs << (transposed ? " transposed, " : ", ") << n_rows << " rows";
        }
      }
    }
  }
}

TEST_P(ReferenceMatmul, QuantisedActivations) {
  std::mt19937_64 random(3);
  for (const DType type : {DType::f16, DType::q4_k}) {
    const Weight weight(type, 6, 256, random);
    for (const int n_rows : {1, 5, 12}) {
      const Result result = multiply(device(), {n_rows, weight.view(), true, true}, 8);
      EXPECT_EQ(count_different(result.want, result.got), 0) << name(type) << ", " << n_rows << " rows";
    }
  }
}

TEST_P(ReferenceMatmul, NoScheduleChangesIt) {
  std::mt19937_64 random(4);
  const Weight weight(DType::q6_k, 35, 512, random);
  for (const int n_rows : {2, 33}) {
    under_schedules(emulated(), [&] {
      const Result result = multiply(device(), {n_rows, weight.view(), true}, 9);
      EXPECT_EQ(count_different(result.want, result.got), 0) << n_rows;
    });
  }
}

TEST_P(ReferenceMatmul, Faults) {
  std::mt19937_64 random(5);
  const Weight weight(DType::f16, 20, 83, random);  // rows of 83 floats are 96 apart, NaN between
  for (const int n_rows : {1, 40}) {
    for (const KernelFault fault : {KernelFault::f16_accumulation, KernelFault::unread_padding}) {
      const Result result = multiply(device(), {n_rows, weight.view(), false, false, fault}, 10);
      EXPECT_GT(count_different(result.want, result.got), n_rows * 10) << n_rows << " rows, fault " << static_cast<int>(fault);
    }
  }
  const Weight blocks(DType::q4_0, 20, 96, random);
  const Result result = multiply(device(), {3, blocks.view(), false, false, KernelFault::f16_accumulation}, 11);
  EXPECT_GT(count_different(result.want, result.got), 3 * 10);
}

GRETA_ON_ALL_DEVICES(ReferenceMatmul);

}  // namespace
}  // namespace greta::gpu
