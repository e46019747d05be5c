// Fingerprints of quantised activations: of the exact values, whatever codes and scale spell them.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <random>

#include "core/activation_blocks.h"
#include "trace/fingerprint.h"
#include "trace/row_scan.h"

namespace greta {
namespace {

std::vector<BlockQ8F32> random_blocks(std::size_t n, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<BlockQ8F32> blocks(n);
  for (BlockQ8F32& block : blocks) {
    block.d = std::ldexp(static_cast<float>(random() % 1000 + 1), static_cast<int>(random() % 40) - 30);
    for (std::int8_t& code : block.q) code = static_cast<std::int8_t>(static_cast<int>(random() % 255) - 127);
  }
  return blocks;
}

const std::byte* bytes(const std::vector<BlockQ8F32>& blocks) { return reinterpret_cast<const std::byte*>(blocks.data()); }
std::int64_t elements(const std::vector<BlockQ8F32>& blocks) { return static_cast<std::int64_t>(blocks.size()) * 32; }
Hash128 hash_of(const std::vector<BlockQ8F32>& blocks) { return row_hash(bytes(blocks), DType::q8_f32, elements(blocks)); }

/// docs/formats.md, "Hash of a row", for tag 6 and the bits of a double.
Hash128 element_hash(std::uint64_t index, double value) {
  const auto bits = std::bit_cast<std::uint64_t>(value == 0 ? 0.0 : value);
  std::uint64_t lo = bits ^ ((index + 1) * 0x9e3779b97f4a7c15u + 6 * 0x2545f4914f6cdd1du);
  lo = (lo ^ (lo >> 33)) * 0xff51afd7ed558ccdu;
  lo = (lo ^ (lo >> 33)) * 0xc4ceb9fe1a85ec53u;
  std::uint64_t hi = bits ^ ((index + 1) * 0xd1342543de82ef95u + 6 * 0xa0761d6478bd642fu);
  hi = (hi ^ (hi >> 30)) * 0xbf58476d1ce4e5b9u;
  hi = (hi ^ (hi >> 27)) * 0x94d049bb133111ebu;
  return {lo ^ (lo >> 33), hi ^ (hi >> 31)};
}

TEST(ActivationFingerprint, HashIsOfTheExactValues) {
  const auto blocks = random_blocks(37, 1);
  Hash128 sum;
  double squares = 0;
  for (std::size_t i = blocks.size() * 32; i-- > 0;) {  // any order
    const double value = static_cast<double>(blocks[i / 32].q[i % 32]) * static_cast<double>(blocks[i / 32].d);
    const Hash128 one = element_hash(i, value);
    sum.lo += one.lo;
    sum.hi += one.hi;
    squares += value * value;
  }
  EXPECT_EQ(hash_of(blocks), sum);
  const Fingerprint print = fingerprint(bytes(blocks), DType::q8_f32, elements(blocks), {});
  EXPECT_EQ(print.hash, sum);
  EXPECT_EQ(print.count, elements(blocks));
  EXPECT_NEAR(print.rms, std::sqrt(squares / static_cast<double>(elements(blocks))), 1e-12 * print.rms);
  ASSERT_EQ(print.sample.size(), 1024u);
  EXPECT_EQ(print.sample[70], static_cast<double>(blocks[2].q[6]) * static_cast<double>(blocks[2].d));
  EXPECT_EQ(print.sketch.size(), static_cast<std::size_t>(kSketchWidth));
}

TEST(ActivationFingerprint, EveryWidthGivesTheSameBits) {
  const auto blocks = random_blocks(5, 2);
  for (const auto width : {trace::ScanWidth::two, trace::ScanWidth::four, trace::ScanWidth::eight}) {
    if (!trace::scan_width_supported(width)) continue;
    EXPECT_EQ(trace::scan_row(bytes(blocks), DType::q8_f32, elements(blocks), true, width).hash, hash_of(blocks));
  }
}

TEST(ActivationFingerprint, SeesOneCodeStepAndOneUlpOfAScale) {
  const auto blocks = random_blocks(9, 3);
  const Hash128 healthy = hash_of(blocks);
  for (std::size_t i = 0; i < blocks.size() * 32; ++i) {
    auto changed = blocks;
    std::int8_t& code = changed[i / 32].q[i % 32];
    code = static_cast<std::int8_t>(code + (code == 127 ? -1 : 1));
    EXPECT_NE(hash_of(changed), healthy) << i;
  }
  for (std::size_t b = 0; b < blocks.size(); ++b) {
    auto changed = blocks;
    changed[b].d = std::nextafter(changed[b].d, 1e30f);
    EXPECT_NE(hash_of(changed), healthy) << b;
  }
}

TEST(ActivationFingerprint, ABlockOfNanIsThatManyNans) {
  auto blocks = random_blocks(3, 4);
  blocks[1].d = std::numeric_limits<float>::quiet_NaN();
  const Fingerprint print = fingerprint(bytes(blocks), DType::q8_f32, 96, {});
  EXPECT_EQ(print.nan, 32);
  EXPECT_TRUE(std::isfinite(print.rms));
}

}  // namespace
}  // namespace greta
