// Dequantisation of every block format against the slow decoder, on random blocks with extreme scales among them.
#include <gtest/gtest.h>

#include <bit>
#include <cstring>
#include <random>
#include <vector>

#include "core/blocks.h"
#include "core/error.h"
#include "core/half.h"
#include "tests/core/slow_decoder.h"

namespace greta {
namespace {

/// Random bytes with finite scales: of four blocks one has a scale from the extremes.
std::vector<std::byte> random_row(DType dtype, std::int64_t n_blocks, std::mt19937& random) {
  const std::int64_t size = dtype_info(dtype).block_bytes;
  std::vector<std::byte> row(static_cast<std::size_t>(n_blocks * size));
  for (std::byte& byte : row) byte = static_cast<std::byte>(random());
  constexpr std::uint16_t kExtremes[]{0x0000, 0x8000, 0x0001, 0x8001, 0x03ff, 0x0400, 0x7bff, 0xfbff, 0x3c00};
  for (std::int64_t b = 0; b < n_blocks; ++b) {
    for (const std::int64_t offset : scale_offsets(dtype)) {
      auto bits = static_cast<std::uint16_t>(random());
      if (random() % 4 == 0) bits = kExtremes[random() % std::size(kExtremes)];
      if ((bits & 0x7c00) == 0x7c00) bits = static_cast<std::uint16_t>(bits ^ 0x4000);
      std::memcpy(row.data() + b * size + offset, &bits, sizeof bits);
    }
    // Extreme codes and sub-scales too.
    if (b % 16 == 3) {
      for (std::int64_t i = 0; i < size; ++i) {
        bool scale = false;
        for (const std::int64_t offset : scale_offsets(dtype)) scale = scale || i == offset || i == offset + 1;
        if (!scale) row[static_cast<std::size_t>(b * size + i)] = b % 32 == 3 ? std::byte{0xff} : std::byte{0x00};
      }
    }
  }
  return row;
}

class EveryBlockType : public ::testing::TestWithParam<DType> {};

TEST_P(EveryBlockType, EqualsTheSlowDecoderBitForBit) {
  constexpr std::uint32_t kSeed = 7;
  constexpr std::int64_t kBlocks = 4000;
  std::mt19937 random(kSeed);
  const DType dtype = GetParam();
  const DTypeInfo& info = dtype_info(dtype);
  const auto row = random_row(dtype, kBlocks, random);
  std::vector<float> got(static_cast<std::size_t>(kBlocks * info.block_elems));
  dequantize_row(dtype, row.data(), static_cast<std::int64_t>(got.size()), got.data());
  for (std::int64_t b = 0; b < kBlocks; ++b) {
    const test::SlowBlock block(reinterpret_cast<const unsigned char*>(row.data() + b * info.block_bytes));
    for (std::int64_t e = 0; e < info.block_elems; ++e) {
      const float expected = block.element(dtype, static_cast<int>(e));
      const float value = got[static_cast<std::size_t>(b * info.block_elems + e)];
      // Zeros compare as numbers: their sign is that of a product by an integer, which has no negative zero in exact
      // arithmetic.
      if (expected == 0 && value == 0) continue;
      ASSERT_EQ(std::bit_cast<std::uint32_t>(value), std::bit_cast<std::uint32_t>(expected))
          << name(dtype) << " block " << b << " element " << e << " seed " << kSeed << ": " << value << ", wanted " << expected;
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

INSTANTIATE_TEST_SUITE_P(Blocks, EveryBlockType, ::testing::ValuesIn(block_types()),
                         [](const auto& param) { return std::string(name(param.param)); });

TEST(DTypes, NamesAndSizesAreTheFormats) {
  EXPECT_EQ(weight_dtypes().size(), 15u);
  EXPECT_EQ(weight_dtype_names(), "f32, f16, bf16, q8_0, q4_0, q4_1, q5_0, q5_1, q2_k, q3_k, q4_k, q5_k, q6_k, iq4_nl, iq4_xs");
  EXPECT_EQ(dtype_from_name("Q4_K"), DType::q4_k);
  EXPECT_EQ(dtype_from_name("iq4_xs"), DType::iq4_xs);
  EXPECT_EQ(dtype_from_name("q4_k_m"), std::nullopt);
  // Bits an element that the formats are known for.
  const std::pair<DType, double> bits[]{{DType::q2_k, 2.625},  {DType::q3_k, 3.4375}, {DType::q4_k, 4.5},   {DType::q5_k, 5.5},
                                        {DType::q6_k, 6.5625}, {DType::iq4_xs, 4.25}, {DType::iq4_nl, 4.5}, {DType::q5_1, 6}};
  for (const auto& [dtype, wanted] : bits) {
    const auto& info = dtype_info(dtype);
    EXPECT_EQ(8.0 * static_cast<double>(info.block_bytes) / static_cast<double>(info.block_elems), wanted) << info.name;
  }
}

}  // namespace
}  // namespace greta
