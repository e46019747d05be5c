#include "trace/fingerprint.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/half.h"
#include "trace/row_scan.h"

namespace greta {
namespace {

constexpr double kInf = std::numeric_limits<double>::infinity();
constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

/// A row as stored in `dtype`, from doubles that it can hold.
std::vector<std::byte> stored(DType dtype, const std::vector<double>& values) {
  std::vector<std::byte> out(static_cast<std::size_t>(row_bytes(dtype, static_cast<std::int64_t>(values.size()))));
  std::byte* at = out.data();
  const auto put = [&](auto bits) {
    std::memcpy(at, &bits, sizeof(bits));
    at += sizeof(bits);
  };
  for (const double v : values) {
    if (dtype == DType::f64) put(v);
    if (dtype == DType::f32) put(static_cast<float>(v));
    if (dtype == DType::f16) put(f32_to_f16(static_cast<float>(v)));
    if (dtype == DType::bf16) put(f32_to_bf16(static_cast<float>(v)));
  }
  return out;
}

Hash128 hash_of(DType dtype, const std::vector<double>& values) {
  return row_hash(stored(dtype, values).data(), dtype, static_cast<std::int64_t>(values.size()));
}

Fingerprint print_of(const std::vector<double>& values, FingerprintOptions options = {}, DType dtype = DType::f64) {
  return fingerprint(stored(dtype, values).data(), dtype, static_cast<std::int64_t>(values.size()), options);
}

std::vector<double> gaussian(std::size_t n, unsigned seed) {
  std::mt19937_64 random(seed);
  std::normal_distribution<double> normal;
  std::vector<double> out(n);
  for (double& x : out) x = normal(random);
  return out;
}

/// docs/formats.md, "Hash of a row", written out for one element: the bits are canonical already.
Hash128 element_hash(std::uint64_t index, std::uint64_t bits, std::uint64_t tag) {
  std::uint64_t lo = bits ^ ((index + 1) * 0x9e3779b97f4a7c15u + tag * 0x2545f4914f6cdd1du);
  lo ^= lo >> 33;
  lo *= 0xff51afd7ed558ccdu;
  lo ^= lo >> 33;
  lo *= 0xc4ceb9fe1a85ec53u;
  lo ^= lo >> 33;
  std::uint64_t hi = bits ^ ((index + 1) * 0xd1342543de82ef95u + tag * 0xa0761d6478bd642fu);
  hi ^= hi >> 30;
  hi *= 0xbf58476d1ce4e5b9u;
  hi ^= hi >> 27;
  hi *= 0x94d049bb133111ebu;
  hi ^= hi >> 31;
  return {lo, hi};
}

TEST(RowHash, IsTheSumOfTheDocumentedMixOverAllElements) {
  for (const std::size_t n : {0u, 1u, 7u, 8u, 9u, 16u, 1000u, 2051u}) {
    const std::vector<double> values = gaussian(n, 3);
    Hash128 f64, f32, f16, bf16;
    const auto add = [](Hash128& sum, const Hash128& one) {
      sum.lo += one.lo;
      sum.hi += one.hi;
    };
    for (std::size_t k = 0; k < n; ++k) {
      const std::size_t i = n - 1 - k;  // any order gives the same sum
      const auto single = static_cast<float>(values[i]);
      add(f64, element_hash(i, std::bit_cast<std::uint64_t>(values[i]), 1));
      add(f32, element_hash(i, std::bit_cast<std::uint32_t>(single), 2));
      add(f16, element_hash(i, f32_to_f16(single), 3));
      add(bf16, element_hash(i, f32_to_bf16(single), 4));
    }
    EXPECT_EQ(hash_of(DType::f64, values), f64) << n;
    EXPECT_EQ(hash_of(DType::f32, values), f32) << n;
    EXPECT_EQ(hash_of(DType::f16, values), f16) << n;
    EXPECT_EQ(hash_of(DType::bf16, values), bf16) << n;
  }
}

// The hi mix is SplitMix64's finaliser and the lo mix MurmurHash3's: their published values pin the constants of the transcript
// above. SplitMix64 seeded with 0 gives e220a8397b1dcdaf first, which is its finaliser of the Weyl step 9e3779b97f4a7c15;
// MurmurHash3's fmix64(1) is b456bcfc34c2cb2c.
TEST(RowHash, MixesAreThePublishedFinalisers) {
  const std::uint64_t key_hi = 0xd1342543de82ef95u + 0xa0761d6478bd642fu;
  EXPECT_EQ(element_hash(0, 0x9e3779b97f4a7c15u ^ key_hi, 1).hi, 0xe220a8397b1dcdafu);
  const std::uint64_t key_lo = 0x9e3779b97f4a7c15u + 0x2545f4914f6cdd1du;
  EXPECT_EQ(element_hash(0, 1 ^ key_lo, 1).lo, 0xb456bcfc34c2cb2cu);
}

TEST(RowHash, NegativeZeroIsZeroAndNansAreOne) {
  for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16})
    EXPECT_EQ(hash_of(dtype, {1, -0.0, 2}), hash_of(dtype, {1, 0.0, 2})) << name(dtype);
  const auto f32 = [](std::uint32_t bits) { return row_hash(reinterpret_cast<const std::byte*>(&bits), DType::f32, 1); };
  EXPECT_EQ(f32(0x7f800001u), f32(0x7fc00000u));  // signalling
  EXPECT_EQ(f32(0xffc12345u), f32(0x7fc00000u));  // negative, with a payload
  EXPECT_NE(f32(0x7f800000u), f32(0x7fc00000u));  // infinity is not NaN
  EXPECT_NE(f32(0x7f800000u), f32(0xff800000u));  // infinities keep their sign
  EXPECT_NE(f32(0x80000001u), f32(0x00000001u));  // subnormals keep theirs
  const auto f64 = [](std::uint64_t bits) { return row_hash(reinterpret_cast<const std::byte*>(&bits), DType::f64, 1); };
  EXPECT_EQ(f64(0xfff0000000000001u), f64(0x7ff8000000000000u));
  EXPECT_NE(f64(0xfff0000000000000u), f64(0x7ff8000000000000u));
  const auto b16 = [](std::uint16_t bits, DType dtype) {
    return row_hash(reinterpret_cast<const std::byte*>(&bits), dtype, 1);
  };
  EXPECT_EQ(b16(0x7c01u, DType::f16), b16(0xffffu, DType::f16));
  EXPECT_NE(b16(0x7c00u, DType::f16), b16(0x7c01u, DType::f16));
  EXPECT_EQ(b16(0x7f81u, DType::bf16), b16(0xffffu, DType::bf16));
  EXPECT_NE(b16(0x7c01u, DType::bf16), b16(0x7c02u, DType::bf16));  // a NaN in f16, a number here
}

TEST(RowHash, SeesOrderLengthRepetitionAndDtype) {
  const std::vector<double> values = gaussian(64, 11);
  std::vector<Hash128> hashes{hash_of(DType::f32, values)};
  for (std::size_t i = 0; i < values.size(); ++i)
    for (std::size_t j = i + 1; j < values.size(); ++j) {
      std::vector<double> swapped = values;
      std::swap(swapped[i], swapped[j]);
      hashes.push_back(hash_of(DType::f32, swapped));
    }
  for (std::size_t n = 0; n <= 64; ++n) hashes.push_back(hash_of(DType::f32, std::vector<double>(n, 0.0)));
  for (std::size_t n = 1; n <= 64; ++n) hashes.push_back(hash_of(DType::f32, std::vector<double>(n, 0.5)));
  for (std::size_t n = 1; n < 64; ++n)  // a row that begins alike
    hashes.push_back(hash_of(DType::f32, std::vector<double>(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(n))));
  for (const DType dtype : {DType::f64, DType::f16, DType::bf16}) hashes.push_back(hash_of(dtype, std::vector<double>(8, 0.0)));
  std::set<std::uint64_t> lo, hi;
  for (const Hash128& hash : hashes) {
    lo.insert(hash.lo);
    hi.insert(hash.hi);
  }
  EXPECT_EQ(lo.size(), hashes.size());  // each half alone tells them all apart
  EXPECT_EQ(hi.size(), hashes.size());
}

TEST(RowHash, OneUlpAnywhereIsSeen) {
  for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    std::vector<std::byte> row = stored(dtype, gaussian(2048, 5));
    const Hash128 before = row_hash(row.data(), dtype, 2048);
    const auto size = static_cast<std::size_t>(row_bytes(dtype, 1));
    for (std::size_t i = 0; i < 2048; i += 13) {
      row[i * size] ^= std::byte{1};
      const Hash128 after = row_hash(row.data(), dtype, 2048);
      row[i * size] ^= std::byte{1};
      ASSERT_NE(after.lo, before.lo) << name(dtype) << " element " << i;
      ASSERT_NE(after.hi, before.hi) << name(dtype) << " element " << i;
    }
    EXPECT_EQ(row_hash(row.data(), dtype, 2048), before);
  }
}

TEST(RowHash, LowBitsOfTheSumsAreSpread) {
  // 4096 rows that differ in the lowest bit of two elements: were the mix weak, sums would meet again and again.
  std::vector<double> values(64, 1.0);
  std::set<std::uint64_t> lo, hi;
  for (int i = 0; i < 64; ++i)
    for (int j = 0; j < 64; ++j) {
      std::vector<double> row = values;
      row[static_cast<std::size_t>(i)] = std::nextafter(row[static_cast<std::size_t>(i)], 2.0);
      row[static_cast<std::size_t>(j)] = std::nextafter(row[static_cast<std::size_t>(j)], 2.0);
      const Hash128 hash = hash_of(DType::f64, row);
      lo.insert(hash.lo & 0xffffffffu);
      hi.insert(hash.hi & 0xffffffffu);
    }
  // (i, j) and (j, i) are the same row: 64 * 65 / 2 rows; 2,080 values of 32 bits meet by chance once in 2,000 tries.
  EXPECT_GE(lo.size(), 64u * 65u / 2u - 1u);
  EXPECT_GE(hi.size(), 64u * 65u / 2u - 1u);
}

TEST(RowScan, EveryWidthGivesTheSameBits) {
  using trace::ScanWidth;
  std::mt19937 random(17);
  for (const DType dtype : {DType::f64, DType::f32, DType::f16, DType::bf16}) {
    for (const std::int64_t n : {0, 1, 3, 8, 13, 255, 4096, 4099}) {
      // Random bits: subnormals, infinities and NaN among them.
      std::vector<std::byte> row(static_cast<std::size_t>(row_bytes(dtype, n)));
      for (std::byte& b : row) b = static_cast<std::byte>(random());
      const trace::RowScan narrow = trace::scan_row(row.data(), dtype, n, true, ScanWidth::two);
      for (const ScanWidth width : {ScanWidth::four, ScanWidth::eight}) {
        if (!trace::scan_width_supported(width)) {
          std::printf("width %d: not on this machine, passed over\n", static_cast<int>(width));
          continue;
        }
        const trace::RowScan wide = trace::scan_row(row.data(), dtype, n, true, width);
        EXPECT_EQ(wide.hash, narrow.hash) << name(dtype) << n;
        EXPECT_EQ(std::bit_cast<std::uint64_t>(wide.sum), std::bit_cast<std::uint64_t>(narrow.sum)) << name(dtype) << n;
        EXPECT_EQ(std::bit_cast<std::uint64_t>(wide.squares), std::bit_cast<std::uint64_t>(narrow.squares)) << name(dtype) << n;
        EXPECT_EQ(wide.abs_sum, narrow.abs_sum) << name(dtype) << n;
        EXPECT_EQ(wide.min, narrow.min) << name(dtype) << n;
        EXPECT_EQ(wide.max, narrow.max) << name(dtype) << n;
        EXPECT_EQ(wide.nan, narrow.nan) << name(dtype) << n;
        EXPECT_EQ(wide.inf, narrow.inf) << name(dtype) << n;
        EXPECT_EQ(wide.zero, narrow.zero) << name(dtype) << n;
        EXPECT_EQ(wide.finite, narrow.finite) << name(dtype) << n;
      }
    }
  }
}

TEST(RowScan, EverySixteenBitPatternHasItsValue) {
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (std::uint32_t bits = 0; bits < 0x10000u; ++bits) {
      const auto one = static_cast<std::uint16_t>(bits);
      const trace::RowScan scan = trace::scan_row(reinterpret_cast<const std::byte*>(&one), dtype, 1, true);
      const double value = static_cast<double>(dtype == DType::f16 ? f16_to_f32(one) : bf16_to_f32(one));
      if (std::isfinite(value)) {
        ASSERT_EQ(scan.min, value) << bits;
        ASSERT_EQ(scan.sum, value) << bits;
        ASSERT_EQ(scan.zero, value == 0 ? 1 : 0) << bits;
      } else {
        ASSERT_EQ(scan.finite, 0) << bits;
        ASSERT_EQ(scan.nan, std::isnan(value) ? 1 : 0) << bits;
        ASSERT_EQ(scan.inf, std::isinf(value) ? 1 : 0) << bits;
      }
    }
  }
}

TEST(Fingerprint, StatisticsHaveTheirClosedForms) {
  std::vector<double> ramp(1000);
  std::iota(ramp.begin(), ramp.end(), -499.0);  // -499..500: integers, so every sum is exact
  for (const DType dtype : {DType::f64, DType::f32, DType::f16}) {
    const Fingerprint print = print_of(ramp, {}, dtype);
    EXPECT_EQ(print.count, 1000);
    EXPECT_EQ(print.min, -499);
    EXPECT_EQ(print.max, 500);
    EXPECT_EQ(print.mean, 0.5);
    EXPECT_EQ(print.abs_sum, 499.0 * 500 / 2 + 500.0 * 501 / 2);
    EXPECT_EQ(print.rms, std::sqrt((499.0 * 500 * 999 / 6 + 500.0 * 501 * 1001 / 6) / 1000));
    EXPECT_EQ(print.zero, 1);
    EXPECT_EQ(print.nan, 0);
    EXPECT_EQ(print.inf, 0);
    EXPECT_EQ(print.sample, ramp);
    EXPECT_TRUE(print.whole_row);
  }
}

TEST(Fingerprint, SumsAreInEightLanesAndOneTree) {
  std::vector<double> values = gaussian(1003, 77);
  for (std::size_t i = 0; i < values.size(); i += 5) values[i] *= 1e9;  // so that the order shows in the last bits
  std::array<double, 8> sum{}, squares{}, abs_sum{};
  for (std::size_t i = 0; i < values.size(); ++i) {
    sum[i % 8] += values[i];
    squares[i % 8] += values[i] * values[i];
    abs_sum[i % 8] += std::abs(values[i]);
  }
  const auto tree = [](const std::array<double, 8>& v) {
    return ((v[0] + v[1]) + (v[2] + v[3])) + ((v[4] + v[5]) + (v[6] + v[7]));
  };
  const Fingerprint print = print_of(values);
  EXPECT_EQ(print.mean, tree(sum) / 1003);
  EXPECT_EQ(print.rms, std::sqrt(tree(squares) / 1003));
  EXPECT_EQ(print.abs_sum, tree(abs_sum));
}

TEST(Fingerprint, StatisticsAreOverFiniteElements) {
  const Fingerprint print = print_of({kNan, 3, -kInf, -1, 0, -0.0, kInf, kNan, 2});
  EXPECT_EQ(print.count, 9);
  EXPECT_EQ(print.nan, 2);
  EXPECT_EQ(print.inf, 2);
  EXPECT_EQ(print.zero, 2);
  EXPECT_EQ(print.min, -1);
  EXPECT_EQ(print.max, 3);
  EXPECT_EQ(print.mean, 4.0 / 5);
  EXPECT_EQ(print.abs_sum, 6);
  EXPECT_EQ(print.rms, std::sqrt(14.0 / 5));
  double norm = 0;
  for (const double bucket : print.sketch) {
    EXPECT_TRUE(std::isfinite(bucket));
    norm += bucket * bucket;
  }
  EXPECT_GT(norm, 0);
  const Fingerprint none = print_of({kNan, kInf});
  EXPECT_EQ(none.min, 0);
  EXPECT_EQ(none.max, 0);
  EXPECT_EQ(none.rms, 0);
  const Fingerprint empty = print_of({});
  EXPECT_EQ(empty.count, 0);
  EXPECT_EQ(empty.hash, Hash128{});
  EXPECT_EQ(empty.mean, 0);
}

TEST(Fingerprint, RmsNeitherOverflowsNorUnderflows) {
  EXPECT_DOUBLE_EQ(print_of({3e200, 4e200, 0, 0}).rms, 2.5e200);
  EXPECT_DOUBLE_EQ(print_of({3e-200, 4e-200, 0, 0}).rms, 2.5e-200);
  EXPECT_EQ(print_of({0, 0, 0}).rms, 0);
}

TEST(Fingerprint, OptionsLeaveOutWhatWasNotAskedFor) {
  const std::vector<double> values = gaussian(100, 1);
  const Fingerprint bare = print_of(values, {.sample = 0, .sketch = false, .statistics = false});
  EXPECT_EQ(bare.hash, print_of(values).hash);
  EXPECT_EQ(bare.count, 100);
  EXPECT_TRUE(bare.sample.empty());
  EXPECT_TRUE(bare.sketch.empty());
  EXPECT_EQ(bare.rms, 0);
  EXPECT_EQ(print_of(values, {.sample = 7}).sample, std::vector<double>(values.begin(), values.begin() + 7));
  EXPECT_EQ(print_of(values, {.sample = 1024}).sample.size(), 100u);
  EXPECT_EQ(print_of(values, {.sample = -1}).sample.size(), 0u);
}

TEST(Fingerprint, OfASliceSaysThatItIsNotTheRow) {
  const std::vector<double> slice{1, 2, 3};
  const Fingerprint print = fingerprint_of_slice(slice);
  EXPECT_FALSE(print.whole_row);
  EXPECT_EQ(print.hash, hash_of(DType::f64, slice));
  EXPECT_EQ(print.count, 3);
  EXPECT_EQ(print.mean, 2);
}

TEST(Fingerprint, RefusesTypesThatAreNotRecorded) {
  std::array<std::byte, 34> block{};
  EXPECT_THROW(row_hash(block.data(), DType::q4_0, 32), Error);
  EXPECT_THROW(fingerprint(block.data(), DType::q4_0, 32, {}), Error);
}

/// Rows of q8_0 are known by their dequantised elements: what a block is made of does not show, what it stands for does.
TEST(Fingerprint, Q8_0IsOfTheDequantizedElements) {
  struct Block {
    std::uint16_t d;
    std::int8_t q[32];
  } row[2] = {{0x3800, {}}, {0x2c00, {}}};  // 1/2, 1/16
  std::vector<float> values;
  for (int i = 0; i < 64; ++i) {
    row[i / 32].q[i % 32] = static_cast<std::int8_t>(i * 4 - 127);
    values.push_back(static_cast<float>(row[i / 32].q[i % 32]) * (i < 32 ? 0.5f : 0.0625f));
  }
  const auto* bytes = reinterpret_cast<const std::byte*>(row);
  const Fingerprint print = fingerprint(bytes, DType::q8_0, 64, {});
  const Fingerprint plain = fingerprint(reinterpret_cast<const std::byte*>(values.data()), DType::f32, 64, {});
  EXPECT_EQ(print.sample, plain.sample);
  EXPECT_EQ(print.sketch, plain.sketch);
  EXPECT_EQ(print.min, plain.min);
  EXPECT_EQ(print.max, plain.max);
  EXPECT_EQ(print.mean, plain.mean);
  EXPECT_EQ(print.rms, plain.rms);
  EXPECT_EQ(print.abs_sum, plain.abs_sum);
  EXPECT_NE(print.hash, plain.hash) << "the same values in two types hash differently";
  EXPECT_EQ(row_hash(bytes, DType::q8_0, 64), print.hash);
  Hash128 expected;  // docs/formats.md, with tag 5
  for (std::uint64_t i = 0; i < 64; ++i) {
    std::uint32_t bits = 0;
    std::memcpy(&bits, &values[i], sizeof bits);
    if (values[i] == 0) bits = 0;
    std::uint64_t z = bits ^ ((i + 1) * 0x9e3779b97f4a7c15u + 5 * 0x2545f4914f6cdd1du);
    z = (z ^ (z >> 33)) * 0xff51afd7ed558ccdu;
    z = (z ^ (z >> 33)) * 0xc4ceb9fe1a85ec53u;
    expected.lo += z ^ (z >> 33);
    z = bits ^ ((i + 1) * 0xd1342543de82ef95u + 5 * 0xa0761d6478bd642fu);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    expected.hi += z ^ (z >> 31);
  }
  EXPECT_EQ(print.hash, expected);
  row[1].d = 0x7e00;
  EXPECT_EQ(fingerprint(bytes, DType::q8_0, 64, {}).nan, 32);
}

double sketch_distance(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += (a[i] - b[i]) * (a[i] - b[i]);
  return sum;
}

TEST(Sketch, EstimatesTheNormOfADifferenceWithinItsSpread) {
  // Over many pairs the ratio of estimated to true squared distance has mean 1 and standard deviation sqrt(2/64) = 0.177.
  constexpr int kPairs = 400;
  for (const std::size_t n : {300u, 2048u}) {
    double sum = 0, squares = 0, worst = 0;
    for (unsigned seed = 0; seed < kPairs; ++seed) {
      const std::vector<double> a = gaussian(n, 2 * seed + 1000), b = gaussian(n, 2 * seed + 1001);
      const FingerprintOptions options{.sample = 0};
      const double ratio = sketch_distance(print_of(a, options).sketch, print_of(b, options).sketch) / sketch_distance(a, b);
      sum += ratio;
      squares += ratio * ratio;
      worst = std::max(worst, std::abs(ratio - 1));
    }
    const double mean = sum / kPairs, deviation = std::sqrt(squares / kPairs - mean * mean);
    EXPECT_NEAR(mean, 1, 4 * 0.177 / std::sqrt(kPairs)) << n;
    EXPECT_NEAR(deviation, std::sqrt(2.0 / kSketchWidth), 0.03) << n;
    EXPECT_LT(worst, 5 * 0.177) << n;
  }
}

TEST(Sketch, IsExactWhereOneElementDiffers) {
  std::vector<double> a(500, 0.0), b(500, 0.0);
  b[321] = -0.125;
  EXPECT_EQ(std::sqrt(sketch_distance(print_of(a).sketch, print_of(b).sketch)), 0.125);
}

TEST(Sketch, PlacesFillBucketsAndSignsEvenly) {
  std::vector<int> bucket(kSketchWidth, 0);
  int positive = 0;
  constexpr int n = 64 * 1000;
  for (int i = 0; i < n; ++i) {
    const SketchPlace place = sketch_place(i);
    ASSERT_TRUE(place.bucket >= 0 && place.bucket < kSketchWidth);
    ASSERT_EQ(std::abs(place.sign), 1.0);
    ++bucket[static_cast<std::size_t>(place.bucket)];
    positive += place.sign > 0;
  }
  EXPECT_NEAR(positive, n / 2, 4 * std::sqrt(n / 4.0));
  for (const int count : bucket) EXPECT_NEAR(count, 1000, 5 * std::sqrt(1000.0));
}

TEST(Sketch, IsInOrderOfIndex) {
  // In index order 1e16 + 1 - 1e16 loses the 1; any other order would not. Three indices of one bucket and sign are needed.
  const SketchPlace first = sketch_place(0);
  std::vector<std::size_t> same;
  for (std::int64_t i = 0; same.size() < 3; ++i)
    if (const SketchPlace p = sketch_place(i); p.bucket == first.bucket && p.sign == first.sign)
      same.push_back(static_cast<std::size_t>(i));
  std::vector<double> row(same[2] + 1, 0.0);
  row[same[0]] = 1e16;
  row[same[1]] = 1;
  row[same[2]] = -1e16;
  EXPECT_EQ(print_of(row).sketch[static_cast<std::size_t>(first.bucket)], 0.0);
  std::swap(row[same[1]], row[same[2]]);
  EXPECT_EQ(print_of(row).sketch[static_cast<std::size_t>(first.bucket)], first.sign);
}

TEST(HashHex, RoundTripsAndRefusesAnythingElse) {
  const Hash128 hash{0x0123456789abcdefu, 0xfedcba9876543210u};
  EXPECT_EQ(to_hex(hash), "fedcba98765432100123456789abcdef");
  EXPECT_EQ(hash_from_hex("fedcba98765432100123456789abcdef"), hash);
  EXPECT_EQ(hash_from_hex("FEDCBA98765432100123456789ABCDEF"), hash);
  EXPECT_EQ(hash_from_hex(""), std::nullopt);
  EXPECT_EQ(hash_from_hex("fedcba98765432100123456789abcde"), std::nullopt);
  EXPECT_EQ(hash_from_hex("fedcba98765432100123456789abcdef0"), std::nullopt);
  EXPECT_EQ(hash_from_hex("fedcba98765432100123456789abcdeg"), std::nullopt);
  EXPECT_EQ(hash_from_hex("0xcdba98765432100123456789abcdef"), std::nullopt);
}

}  // namespace
}  // namespace greta
