// A step's fingerprints through PrintBatch are those of the host, also from a replayed graph.
#include "ops/gpu/print_batch.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/gpu/devices.h"
#include "tests/gpu/print_rows.h"
#include "trace/fingerprint.h"
#include "trace/fingerprint_parts.h"

namespace greta::gpu {
namespace {

/// As a caller makes one of sums and a slice.
Fingerprint finished(const PrintBatch& batch, std::size_t i, const std::vector<std::byte>& row, DType dtype,
                     std::int64_t count) {
  std::vector<double> sample = fingerprint(row.data(), dtype, count, {}).sample;
  return finish_fingerprint(batch.sums()[i], count, std::move(sample), {batch.sketch(i).begin(), batch.sketch(i).end()});
}

void expect_equal(const Fingerprint& found, const Fingerprint& expected) {
  EXPECT_EQ(found.hash, expected.hash);
  EXPECT_EQ(found.count, expected.count);
  for (const auto field : {&Fingerprint::min, &Fingerprint::max, &Fingerprint::mean, &Fingerprint::rms, &Fingerprint::abs_sum})
    EXPECT_EQ(found.*field, expected.*field);
  for (const auto field : {&Fingerprint::nan, &Fingerprint::inf, &Fingerprint::zero}) EXPECT_EQ(found.*field, expected.*field);
  EXPECT_EQ(found.sample.size(), expected.sample.size());  // NaN among them
  EXPECT_EQ(found.sketch, expected.sketch);
  EXPECT_TRUE(found.whole_row);
}

class PrintBatches : public DeviceTest {
 protected:
  void run(PrintBatch& batch) {
    batch.commit(stream());
    batch.queue(stream());
    device().synchronize(stream());
  }
};

TEST_P(PrintBatches, GiveTheFingerprintsOfTheHost) {
  struct Case {
    DType dtype;
    std::int64_t count;
    Odd odd;
  };
  PrintBatch batch(device());
  for (const std::vector<Case>& cases :
       {std::vector<Case>{{DType::f32, 100, Odd::everything}},
        {{DType::f32, 2500, Odd::nothing}, {DType::f16, 77, Odd::everything}, {DType::q8_f32, 96, Odd::everything}},
        {{DType::f32, 5, Odd::nothing_finite}, {DType::bf16, 0, Odd::nothing}}}) {
    std::vector<std::vector<std::byte>> rows;
    std::vector<std::unique_ptr<DeviceArray<std::byte>>> memory;
    batch.begin();
    for (const Case& one : cases) {
      rows.push_back(odd_row(one.dtype, one.count, one.odd, rows.size() + 1));
      std::vector<std::byte> padded = rows.back();
      padded.resize(padded.size() + 1);  // no memory of 0 bytes
      memory.push_back(std::make_unique<DeviceArray<std::byte>>(device(), padded));
      batch.add({Stage::mlp_out, 3, {}}, memory.back()->get(), one.dtype, one.count, true);
    }
    run(batch);
    ASSERT_EQ(batch.sums().size(), cases.size());
    for (std::size_t i = 0; i < cases.size(); ++i) {
      EXPECT_EQ(batch.jobs()[i].row, memory[i]->get());
      expect_equal(finished(batch, i, rows[i], cases[i].dtype, cases[i].count),
                   fingerprint(rows[i].data(), cases[i].dtype, cases[i].count, {}));
    }
  }
}

// The graph is captured once; then the row's bytes change, and then the jobs (a longer row, elsewhere).
TEST_P(PrintBatches, AreReplayedFromAGraphWithOtherJobs) {
  const std::vector<std::byte> first = odd_row(DType::f32, 50, Odd::everything, 1),
                               second = odd_row(DType::f32, 50, Odd::nothing, 2),
                               longer = odd_row(DType::f32, 60, Odd::nothing, 3);
  const DeviceArray<std::byte> row(device(), first), elsewhere(device(), longer);
  PrintBatch batch(device());
  batch.reserve(1, 64);
  const std::uint64_t generation = batch.generation();
  batch.begin();
  batch.add({Stage::q, 0, {}}, row.get(), DType::f32, 50, true);
  batch.commit(stream());
  device().synchronize(stream());
  device().begin_capture();
  batch.queue(device().stream());
  const std::unique_ptr<Graph> graph = device().end_capture();
  const auto replayed = [&](const std::vector<std::byte>& bytes, std::int64_t count) {
    graph->replay();
    device().synchronize(stream());
    expect_equal(finished(batch, 0, bytes, DType::f32, count), fingerprint(bytes.data(), DType::f32, count, {}));
  };
  replayed(first, 50);
  device().upload(row.bytes(), second.data(), second.size(), stream());
  replayed(second, 50);
  batch.begin();
  batch.add({Stage::q, 0, {}}, elsewhere.get(), DType::f32, 60, true);
  batch.commit(stream());
  EXPECT_EQ(batch.generation(), generation);
  replayed(longer, 60);
  batch.reserve(2, 64);
  EXPECT_NE(batch.generation(), generation);
}

// Sums come on the other stream, late: only who waits for that one has them.
TEST_P(PrintBatches, MayComeOnAnotherStream) {
  const std::vector<std::byte> first = odd_row(DType::f32, 500, Odd::everything, 1);
  const DeviceArray<std::byte> row(device(), first);
  PrintBatch batch(device());
  device().jitter(1);
  batch.begin();
  batch.add({Stage::q, 0, {}}, row.get(), DType::f32, 500, true);
  batch.commit(stream());
  batch.queue(stream(), device().side_stream());
  device().fill(row.bytes(), 0, first.size(), stream());  // behind the kernel, not behind the copy
  device().synchronize(stream());
  if (emulated()) {
    EXPECT_NE(batch.sums()[0].hash, row_hash(first.data(), DType::f32, 500));
  }
  device().synchronize(device().side_stream());
  device().jitter(0);
  expect_equal(finished(batch, 0, first, DType::f32, 500), fingerprint(first.data(), DType::f32, 500, {}));
}

TEST_P(PrintBatches, MayBeEmptyAndRefuseWhatTheyCannotPrint) {
  PrintBatch batch(device());
  batch.begin();
  run(batch);
  EXPECT_TRUE(batch.sums().empty());
  EXPECT_THROW(batch.add({}, nullptr, DType::f64, 8, true), Error);
  EXPECT_THROW(batch.add({}, nullptr, DType::f32, -1, true), Error);
  EXPECT_THROW(batch.add({}, nullptr, DType::f32, std::int64_t{1} << 31, true), Error);
  EXPECT_THROW(batch.add({}, nullptr, DType::q8_f32, 40, true), Error);
  EXPECT_TRUE(batch.jobs().empty());
}

GRETA_ON_ALL_DEVICES(PrintBatches);

}  // namespace
}  // namespace greta::gpu
