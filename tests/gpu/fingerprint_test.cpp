// Fingerprints made on a device have the bits of trace/fingerprint.cpp.
#include "trace/fingerprint.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <string>

#include "core/error.h"
#include "ops/gpu/emulated_blocks.h"
#include "ops/gpu/sketch_order.h"
#include "tests/gpu/devices.h"
#include "tests/gpu/print_rows.h"
#include "trace/row_scan.h"

namespace greta::gpu {
namespace {

constexpr std::array kTypes = {DType::f32, DType::f16, DType::bf16, DType::q8_f32};

std::uint64_t bits(double x) { return std::bit_cast<std::uint64_t>(x); }

struct Row {
  DType dtype = DType::f32;
  std::int64_t count = 0;
  bool sketch = true;
  std::vector<std::byte> data;
  std::size_t offset = 0;  // in the buffer of all rows
};

Row row_of(DType dtype, std::int64_t count, Odd odd, std::uint64_t seed, bool sketch = true) {
  if (dtype == DType::q8_f32) count = count / kActivationBlock * kActivationBlock;
  return {dtype, count, sketch, odd_row(dtype, count, odd, seed)};
}

struct Printed : RowSums {
  std::vector<double> sketch;  // empty: none was wanted
};

void expect_same(const Printed& found, const Row& row, const std::string& what) {
  const trace::RowScan expected = trace::scan_row(row.data.data(), row.dtype, row.count, true);
  EXPECT_EQ(found.hash, expected.hash) << what;
  EXPECT_EQ(bits(found.min), bits(expected.min)) << what << found.min << " not " << expected.min;
  EXPECT_EQ(bits(found.max), bits(expected.max)) << what << found.max << " not " << expected.max;
  EXPECT_EQ(bits(found.sum), bits(expected.sum)) << what << found.sum - expected.sum;
  EXPECT_EQ(bits(found.squares), bits(expected.squares)) << what << found.squares - expected.squares;
  EXPECT_EQ(bits(found.abs_sum), bits(expected.abs_sum)) << what << found.abs_sum - expected.abs_sum;
  EXPECT_EQ(found.finite, expected.finite) << what;
  EXPECT_EQ(found.nan, expected.nan) << what;
  EXPECT_EQ(found.inf, expected.inf) << what;
  EXPECT_EQ(found.zero, expected.zero) << what;
  const std::vector<double> sketch = fingerprint(row.data.data(), row.dtype, row.count, {}).sketch;
  for (std::size_t b = 0; b < found.sketch.size(); ++b)
    ASSERT_EQ(bits(found.sketch[b]), bits(sketch[b])) << what << " bucket " << b;
}

class Fingerprints : public DeviceTest {
 protected:
  /// Launches once for all rows; what the sums held before must not matter.
  std::vector<Printed> print(std::vector<Row>& rows) {
    std::vector<std::byte> all;
    for (Row& row : rows) {
      row.offset = all.size() + all.size() % 2;
      all.resize(row.offset);
      if (row.dtype == DType::f32 || row.dtype == DType::q8_f32) row.offset = (row.offset + 3) / 4 * 4;
      all.resize(row.offset);
      all.insert(all.end(), row.data.begin(), row.data.end());
    }
    all.resize(all.size() + 1);
    const DeviceArray<std::byte> data(device(), all);
    std::vector<PrintJob> jobs;
    std::int64_t longest = 0;
    std::int32_t sketches = 0;
    for (const Row& row : rows) {
      jobs.push_back({data.get() + row.offset, row.count, row.dtype, row.sketch ? sketches++ : -1});
      longest = std::max(longest, row.count);
    }
    const SketchOrder table = sketch_order(longest);
    const DeviceArray<std::uint32_t> order(device(), table.order), begin(device(), table.begin);
    const DeviceArray<PrintJob> device_jobs(device(), jobs);
    const DeviceArray<RowSums> sums(device(), rows.size());
    const DeviceArray<double> buckets(device(), static_cast<std::size_t>(sketches) * kSketchWidth + 1);
    device().fill(sums.bytes(), 0xa5, rows.size() * sizeof(RowSums), stream());
    device().kernels().fingerprint(stream(), {.jobs = device_jobs.get(),
                                              .n_jobs = static_cast<std::int64_t>(rows.size()),
                                              .sums = sums.get(),
                                              .sketches = buckets.get(),
                                              .sketch_order = order.get(),
                                              .sketch_begin = begin.get()});
    const std::vector<RowSums> found = sums.download();
    const std::vector<double> all_buckets = buckets.download();
    std::vector<Printed> printed;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      printed.push_back({found[i], {}});
      const auto* first = all_buckets.data() + static_cast<std::size_t>(std::max(jobs[i].sketch, 0)) * kSketchWidth;
      if (jobs[i].sketch >= 0) printed.back().sketch.assign(first, first + kSketchWidth);
    }
    return printed;
  }
  void expect_all(std::vector<Row>& rows, std::size_t every = 1) {
    const std::vector<Printed> found = print(rows);
    for (std::size_t i = 0; i < rows.size() && !HasFatalFailure(); i += every)
      expect_same(
          found[i], rows[i],
          std::string(name(rows[i].dtype)) + " row " + std::to_string(i) + " of " + std::to_string(rows[i].count) + ": ");
  }
};

TEST_P(Fingerprints, HaveTheBitsOfTheCpu) {
  std::vector<Row> rows;
  std::uint64_t seed = 1;
  for (const DType dtype : kTypes)
    for (const std::int64_t count : {0, 1, 7, 8, 9, 31, 64, 100, 1000, 4099})
      for (const Odd odd : {Odd::nothing, Odd::everything, Odd::random_bits}) rows.push_back(row_of(dtype, count, odd, ++seed));
  expect_all(rows);
}

TEST_P(Fingerprints, OfLongRows) {
  std::vector<Row> rows{row_of(DType::f32, 128'256, Odd::nothing, 50),     row_of(DType::f32, 33'001, Odd::everything, 51),
                        row_of(DType::f16, 8192, Odd::nothing, 52),        row_of(DType::f16, 6143, Odd::everything, 53),
                        row_of(DType::bf16, 10'241, Odd::random_bits, 54), row_of(DType::q8_f32, 14'336, Odd::nothing, 55)};
  expect_all(rows);
}

// A minimum or maximum of zero has the sign of the first zero in order of lanes; infinities and NaN alone leave min > max.
TEST_P(Fingerprints, OfZerosAndOfNothingFinite) {
  std::vector<Row> rows;
  std::uint64_t seed = 100;
  for (const DType dtype : {DType::f32, DType::f16, DType::bf16})
    for (const std::int64_t count : {1, 2, 9, 40, 300, 2100})
      for (const Odd odd : {Odd::zeros_only, Odd::nothing_finite}) rows.push_back(row_of(dtype, count, odd, ++seed));
  for (int first = 0; first < 12; ++first) {  // one -0 among zeros and positive numbers
    Row row = row_of(DType::f32, 24, Odd::nothing, 1);
    for (int i = 0; i < 24; ++i) {
      const float x = i == first ? -0.0f : i % 3 == 0 ? 0.0f : static_cast<float>(first % 2 == 0 ? i : -i);
      std::memcpy(row.data.data() + 4 * i, &x, 4);
    }
    rows.push_back(row);
  }
  expect_all(rows);
}

/// Rows around the length from which a block hashes one together: neighbours, alone, with and without a sketch.
void add_long_rows(std::vector<Row>& rows, std::size_t at) {
  for (const auto& [step, count] : {std::pair{0, 16'385}, {1, 20'000}, {2, 16'384}, {9, 17'000}})
    rows[at + static_cast<std::size_t>(step)] =
        row_of(step == 1 ? DType::bf16 : DType::f32, count, Odd::everything, static_cast<std::uint64_t>(count), step != 0);
}

// Enough jobs for the kernel of many rows: alike, and of mixed types, lengths and wishes, long ones, the last group not full.
TEST_P(Fingerprints, OfManyRowsAreTheSame) {
  std::vector<Row> rows;
  for (std::uint64_t i = 0; i < 1602; ++i) {
    if (i % 16 < 8)
      rows.push_back(row_of(kTypes[i / 16 % 4], 70, Odd::nothing, i));
    else
      rows.push_back(row_of(kTypes[i * i % 11 % 4], i % 80 == 8 ? 4099 : static_cast<std::int64_t>(i % 37), Odd::everything, i,
                            i % 3 != 0));
  }
  add_long_rows(rows, 320);
  rows.back() = row_of(DType::f32, 33'000, Odd::everything, 7);
  expect_all(rows, 1);
}

TEST_P(Fingerprints, NeedNoTableWithoutSketches) {
  Row row = row_of(DType::f32, 2500, Odd::everything, 9, false);
  const DeviceArray<std::byte> data(device(), row.data);
  const DeviceArray<PrintJob> jobs(device(), std::vector<PrintJob>{{data.get(), row.count, row.dtype, -1}});
  const DeviceArray<RowSums> sums(device(), 1);
  device().kernels().fingerprint(stream(), {.jobs = jobs.get(), .n_jobs = 1, .sums = sums.get()});
  expect_same({sums.download()[0], {}}, row, "row ");
}

// Were a barrier missing, some order of threads would show it.
TEST_P(Fingerprints, DoNotDependOnTheOrderOfThreads) {
  if (!emulated()) GTEST_SKIP() << "hardware has its own order";
  struct UsualOrder {
    ~UsualOrder() { emulation::set_schedule(emulation::Order::forward); }
  } usual_order;
  for (const auto& [order, seed] :
       {std::pair{emulation::Order::reverse, 0}, {emulation::Order::shuffled, 1}, {emulation::Order::shuffled, 2}}) {
    emulation::set_schedule(order, static_cast<std::uint64_t>(seed));
    std::vector<Row> rows;
    for (const DType dtype : kTypes) {
      rows.push_back(row_of(dtype, 4500, Odd::everything, 40));
      rows.push_back(row_of(dtype, 32, Odd::everything, 41));
    }
    expect_all(rows);
    while (rows.size() < 1540)
      rows.push_back(row_of(DType::f16, static_cast<std::int64_t>(rows.size() % 3), Odd::everything, 42));
    add_long_rows(rows, 160);
    expect_all(rows);
  }
}

GRETA_ON_ALL_DEVICES(Fingerprints);

TEST(SketchOrder, HoldsEveryElementOnceInOrder) {
  const SketchOrder table = sketch_order(5000);
  ASSERT_EQ(table.elements, 3 * kSketchTile);
  ASSERT_EQ(table.begin.size(), 4u);
  std::vector<int> seen(static_cast<std::size_t>(table.elements), 0);
  for (std::size_t tile = 0; tile < 3; ++tile)
    for (std::uint32_t bucket = 0; bucket < kSketchWidth; ++bucket) {
      std::int64_t last = -1;
      for (std::uint32_t j = table.begin[tile]; j < table.begin[tile + 1]; ++j) {
        const std::uint32_t entry = table.order[j * kSketchWidth + bucket];
        const std::int64_t local = entry & 0x7fffffffu;
        ASSERT_GE(local, last);
        last = local;
        if (local == kSketchTile) continue;
        const std::int64_t index = static_cast<std::int64_t>(tile) * kSketchTile + local;
        ++seen[static_cast<std::size_t>(index)];
        const SketchPlace place = sketch_place(index);
        ASSERT_EQ(static_cast<std::uint32_t>(place.bucket), bucket);
        ASSERT_EQ(place.sign < 0, entry >> 31 != 0);
      }
    }
  for (const int times : seen) ASSERT_EQ(times, 1);
  EXPECT_TRUE(sketch_order(0).order.empty());
  EXPECT_THROW(sketch_order(-1), Error);
}

}  // namespace
}  // namespace greta::gpu
