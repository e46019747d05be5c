// Kernels that compute every element alone, bit for bit as the CPU's reference route: add, act_mul, softcap, convert, embed,
// rope, kv_write, quantize.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "core/activation_blocks.h"
#include "ops/cpu/math64.h"
#include "tests/gpu/operands.h"

namespace greta::gpu {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

class ElementKernels : public DeviceTest {
 protected:
  /// Shapes: a row, rows that are not aligned, rows longer than a block.
  static std::vector<std::pair<int, int>> shapes() { return {{1, 1}, {3, 37}, {2, 64}, {70, 5}, {1, 1500}}; }
  /// Rows at positions 0.. of sequence 0.
  static std::vector<RowId> rows(int n) { return test::rows_from(0, n); }
};

TEST_P(ElementKernels, AddActMulAndSoftcap) {
  std::mt19937_64 random(1);
  for (const auto& [n_rows, n_cols] : shapes()) {
    SCOPED_TRACE(testing::Message() << n_rows << " x " << n_cols);
    Tensor a(DType::f32, n_rows, n_cols), b(DType::f32, n_rows, n_cols);
    a.fill_normal(random, 4);
    b.fill_normal(random, 4);
    sprinkle(a, kOddNumbers);
    sprinkle(a, {kNan, kInf, -kInf, -90, 90, 105, -105, 10, 9.99, 1e-30});
    const Tensor empty(DType::f32, n_rows, n_cols);
    const Placed x(device(), a), y(device(), b);
    const std::vector<RowId> ids = rows(n_rows);
    const OpSite site{Stage::x_after_attn, 0, ids};
    under_schedules(emulated(), [&] {
      Tensor want(DType::f32, n_rows, n_cols);
      const Placed out(device(), empty);
      cpu()->add(site, a.view(), b.view(), want.view());
      device().kernels().add(stream(), {x.arg(), y.arg(), out.arg(), n_rows});
      EXPECT_EQ(count_different(want, out.download()), 0) << "add";
      for (const Activation act : {Activation::silu, Activation::gelu_tanh}) {
        cpu()->act_mul(site, act, a.view(), b.view(), want.view());
        device().kernels().act_mul(stream(), {act, x.arg(), y.arg(), out.arg(), n_rows});
        EXPECT_EQ(count_different(want, out.download()), 0) << name(act);
      }
      cpu()->softcap(site, a.view(), 30, want.view());
      device().kernels().softcap(stream(), {x.arg(), out.arg(), n_rows, 30});
      EXPECT_EQ(count_different(want, out.download()), 0) << "softcap";
    });
  }
}

/// What a comparison is worth: one bit of one element is found.
TEST_P(ElementKernels, OneBitIsFound) {
  Tensor a(DType::f32, 2, 37);
  std::mt19937_64 random(1);
  a.fill_normal(random);
  std::vector<std::byte> bytes = a.bytes();
  EXPECT_EQ(count_different(a, bytes), 0);
  bytes[4 * 36] ^= std::byte{1};
  EXPECT_EQ(count_different(a, bytes), 1);
  bytes[4 * 37] = bytes[4 * 37 + 3] = std::byte{0};  // padding, no NaN now
  EXPECT_EQ(count_different(a, bytes), 2);
}

TEST_P(ElementKernels, EveryBinary16AndBfloat16Converts) {
  constexpr int kAll = 1 << 16;
  std::vector<std::uint16_t> words(kAll);
  for (int i = 0; i < kAll; ++i) words[static_cast<std::size_t>(i)] = static_cast<std::uint16_t>(i);
  const DeviceArray<std::uint16_t> in(device(), words), back(device(), words.size());
  const DeviceArray<float> out(device(), words.size());
  for (const DType type : {DType::f16, DType::bf16}) {
    const MatrixArg narrow{in.bytes(), type, kAll, kAll * 2}, wide{out.bytes(), DType::f32, kAll, kAll * 4},
        again{back.bytes(), type, kAll, kAll * 2};
    device().kernels().convert(stream(), {narrow, wide, 1});
    device().kernels().convert(stream(), {wide, again, 1});
    const std::vector<float> values = out.download();
    const std::vector<std::uint16_t> rounded = back.download();
    for (std::size_t i = 0; i < words.size(); ++i) {
      const float want = type == DType::f16 ? f16_to_f32(words[i]) : bf16_to_f32(words[i]);
      if (want != want) {
        ASSERT_TRUE(values[i] != values[i]) << i;
        continue;
      }
      ASSERT_EQ(std::memcmp(&want, &values[i], 4), 0) << name(type) << " " << i;
      ASSERT_EQ(rounded[i], words[i]) << name(type);
    }
  }
}

TEST_P(ElementKernels, FloatsRoundAsOnTheCpu) {
  // Around every boundary between two binary16 or bfloat16 numbers lies a tie; random bits meet subnormals, NaN and infinity.
  std::mt19937_64 random(2);
  std::vector<float> values;
  for (std::uint32_t i = 0; i < 4096; ++i) {
    const auto word = static_cast<std::uint16_t>(random());
    for (const std::uint32_t base : {std::bit_cast<std::uint32_t>(f16_to_f32(word)), std::uint32_t{word} << 16}) {
      for (const std::uint32_t low : {0x0fffu, 0x1000u, 0x1001u, 0x7fffu, 0x8000u, 0x8001u})
        values.push_back(std::bit_cast<float>(base ^ low));
    }
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(random())));
  }
  const auto n = static_cast<std::int64_t>(values.size());
  const DeviceArray<float> in(device(), values);
  const DeviceArray<std::uint16_t> out(device(), values.size());
  for (const DType type : {DType::f16, DType::bf16}) {
    device().kernels().quantize(stream(), {{in.bytes(), DType::f32, n, n * 4}, {out.bytes(), type, n, n * 2}, 1});
    const std::vector<std::uint16_t> got = out.download();
    for (std::size_t i = 0; i < values.size(); ++i)
      ASSERT_EQ(got[i], type == DType::f16 ? f32_to_f16(values[i]) : f32_to_bf16(values[i])) << name(type) << " " << values[i];
  }
}

TEST_P(ElementKernels, EmbedsEveryType) {
  std::mt19937_64 random(3);
  const std::vector<std::int32_t> tokens{4, 0, 6, 4};
  const DeviceArray<std::int32_t> ids(device(), tokens);
  const std::vector<RowId> row_ids = rows(4);
  for (const DType type : weight_dtypes()) {
    for (const bool transposed : {false, true}) {
      const bool blocks = is_block_type(type);
      if (blocks && transposed) continue;
      const Weight table(type, 7, blocks ? 512 : 53, random);
      const WeightView view = transposed ? table.transposed() : table.view();
      const PlacedWeight placed(device(), view);
      for (const float scale : {1.0f, 3.7f}) {
        Tensor want(DType::f32, 4, view.n_cols);
        const Placed out(device(), want);
        cpu()->embed({Stage::x_in, 0, row_ids}, view, tokens, static_cast<double>(scale), want.view());
        device().kernels().embed(stream(), {placed.arg(), ids.get(), 4, scale, out.arg()});
        EXPECT_EQ(count_different(want, out.download()), 0) << name(type) << " " << scale << (transposed ? " transposed" : "");
      }
    }
  }
}

// --- rope --------------------------------------------------------------------------------------------------------------------

struct RopeRun {
  Tensor want;
  std::vector<std::byte> got;
};

RopeRun rope(Device& device, int head_dim, int n_rot, bool interleaved, bool by_row, KernelFault fault) {
  std::mt19937_64 random(4);
  const int n_heads = 3, n_rows = 5, n_cols = n_heads * head_dim;
  const std::vector<std::int32_t> positions =
      by_row ? std::vector<std::int32_t>{0, 1, 2, 3, 4} : std::vector<std::int32_t>{7, 0, 300, 299, 41};
  RopeParams params;
  params.head_dim = head_dim;
  params.n_rot = n_rot;
  params.interleaved = interleaved;
  const std::vector<double> frequency = rope_frequencies(params);
  std::vector<float> turns;
  for (int p = 0; p <= 300; ++p) {
    for (const double f : frequency) {
      const SinCos turn = sincos64(p * f);
      turns.push_back(static_cast<float>(turn.cos));
      turns.push_back(static_cast<float>(turn.sin));
    }
  }
  Tensor x(DType::f32, n_rows, n_cols), want(DType::f32, n_rows, n_cols);
  x.fill_normal(random);
  const Placed in(device, x), out(device, want);
  const DeviceArray<float> table(device, turns);
  const DeviceArray<std::int32_t> where(device, positions);
  const std::vector<RowId> ids = test::rows_from(0, n_rows);
  cpu()->rope({Stage::q_rope, 0, ids}, x.view(), params, positions, want.view());
  device.kernels().rope(device.stream(), {in.arg(), out.arg(), n_rows, head_dim, n_rot, interleaved, table.get(),
                                          by_row ? nullptr : where.get(), fault});
  return {std::move(want), out.download()};
}

TEST_P(ElementKernels, RopeTurnsPairs) {
  under_schedules(emulated(), [&] {
    for (const bool interleaved : {true, false}) {
      for (const auto& [head_dim, n_rot] : {std::pair{16, 16}, {48, 20}, {80, 80}, {9, 4}}) {
        for (const bool by_row : {true, false}) {
          const RopeRun run = rope(device(), head_dim, n_rot, interleaved, by_row, KernelFault::none);
          EXPECT_EQ(count_different(run.want, run.got), 0) << head_dim << " " << n_rot << " " << interleaved << " " << by_row;
        }
      }
    }
  });
}

TEST_P(ElementKernels, RopeFaultNarrowPosition) {
  const RopeRun run = rope(device(), 16, 16, true, false, KernelFault::narrow_position);
  EXPECT_EQ(count_different(run.want, run.got), 2 * 3 * 16);  // rows at 300 and 299
}

// --- kv_write, quantize ------------------------------------------------------------------------------------------------------

TEST_P(ElementKernels, KvWriteRoundsIntoSlots) {
  std::mt19937_64 random(5);
  const std::vector<RowId> ids{{1, 4}, {0, 0}, {1, 2}};
  for (const std::int64_t width : {37, 40}) {  // slots of 40 can be written 8 bytes at a time
    Tensor x(DType::f32, 3, width);
    x.fill_normal(random);
    sprinkle(x, kOddNumbers);
    sprinkle(x, {kNan, kInf, -kInf});
    for (const DType type : {DType::f32, DType::f16, DType::bf16}) {
      TwinKv kv(type, 2, 5, width);
      const DeviceArray<std::byte> memory(device(), kv.bytes());
      const PlacedRows rows(device(), ids);
      const Placed in(device(), x);
      device().kernels().kv_write(stream(), {in.arg(), rows.arg(), kv.arg(memory.bytes())});
      for (std::size_t r = 0; r < ids.size(); ++r) {
        for (std::int64_t i = 0; i < width; ++i) kv.set(ids[r], i, static_cast<float>(x.get(static_cast<std::int64_t>(r), i)));
      }
      const std::vector<std::byte> got = memory.download(), want = kv.bytes();
      if (type == DType::f32) {
        EXPECT_EQ(count_different(want, got), 0);
      } else {
        EXPECT_EQ(want, got) << name(type) << " " << width;  // a NaN has its bits too
      }
    }
  }
}

TEST_P(ElementKernels, QuantizesBlocks) {
  std::mt19937_64 random(6);
  for (const auto& [n_rows, n_cols] : {std::pair{1, 32}, {3, 96}, {2, 320}}) {
    Tensor x(DType::f32, n_rows, n_cols);
    x.fill_normal(random);
    for (int i = 0; i < 32; ++i) x.set(0, i, i % 2 == 0 ? -0.0 : 0.0);
    if (n_cols > 64) {
      x.set(1, 40, kNan);
      x.set(1, 70, -kInf);
      for (int i = 0; i < 32; ++i) x.set(0, 32 + i, (i - 16) * 0x1p-149);
      for (int i = 0; i < 32; ++i) x.set(0, 64 + i, (i * 8 - 128 + 0.5));  // ties
    }
    if (n_cols > 128) {
      for (int i = 0; i < 32; ++i) x.set(1, 96 + i, (10 * i - 150) * 0x1p-149);  // d is coarse: quotients beyond 127
    }
    Tensor want(DType::q8_f32, n_rows, n_cols);
    const Placed in(device(), x), out(device(), want);
    const std::vector<RowId> ids = rows(n_rows);
    cpu()->quantize({Stage::attn_norm, 0, ids}, x.view(), want.view());
    under_schedules(emulated(), [&] {
      device().kernels().quantize(stream(), {in.arg(), out.arg(), n_rows});
      EXPECT_EQ(out.download(), want.bytes()) << n_rows << " x " << n_cols;
    });
  }
}

GRETA_ON_ALL_DEVICES(ElementKernels);

}  // namespace
}  // namespace greta::gpu
