// The emulation finds what hardware leaves undefined.
#define GRETA_GPU_EMULATED_WAVE 32
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "ops/gpu/device.h"
#include "ops/gpu/launch.h"
#include "ops/gpu/portable.h"
#include "tests/gpu/error_of.h"

namespace greta::gpu::emulated32 {
namespace {

using testing::HasSubstr;

/// Schedules are the process's: each test puts the usual one back.
class Emulation : public testing::Test {
 protected:
  ~Emulation() override { emulation::set_schedule(emulation::Order::forward); }
};

GRETA_KERNEL number_threads(int* out) {
  const int block = block_x() + grid_x() * (block_y() + grid_y() * block_z());
  out[block * block_threads() + thread_id()] = 1000 * block + 100 * wave_id() + lane_id();
}

TEST_F(Emulation, RunsEveryThreadOfEveryBlockOnce) {
  for (const emulation::Order order : {emulation::Order::forward, emulation::Order::reverse, emulation::Order::shuffled}) {
    emulation::set_schedule(order, 7);
    std::vector<int> out(std::size_t{3} * 2 * 2 * 70, -1);
    launch({.name = "number", .x = 3, .y = 2, .z = 2, .threads = 70}, number_threads, out.data());
    for (int i = 0; i < static_cast<int>(out.size()); ++i)
      ASSERT_EQ(out[static_cast<std::size_t>(i)], 1000 * (i / 70) + 100 * (i % 70 / 32) + i % 70 % 32) << i;
  }
}

/// out[t] = sum of the block's numbers, by shuffles within waves and shared memory between them.
GRETA_KERNEL sum_block(const float* in, float* out) {
  auto* partial = reinterpret_cast<float*>(shared_memory());
  float sum = in[thread_id()];
  for (int mask = kWave / 2; mask > 0; mask /= 2) sum += shuffle_xor(sum, mask);
  if (lane_id() == 0) partial[wave_id()] = sum;
  block_barrier();
  sum = 0;
  for (int w = 0; w < block_threads() / kWave; ++w) sum += partial[w];
  out[thread_id()] = sum;
}

TEST_F(Emulation, BarriersAndShufflesMeetUnderEverySchedule) {
  std::vector<float> in(256), out(256);
  for (int i = 0; i < 256; ++i) in[static_cast<std::size_t>(i)] = static_cast<float>(i);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    emulation::set_schedule(emulation::Order::shuffled, seed);
    launch({.name = "sum", .threads = 256, .shared = 8 * sizeof(float)}, sum_block, in.data(), out.data());
    EXPECT_THAT(out, testing::Each(255.f * 256 / 2)) << seed;
  }
}

/// out[t] = the t of the thread before, through shared memory.
template <bool kWithBarrier>
GRETA_KERNEL neighbour(float* out) {
  auto* row = reinterpret_cast<float*>(shared_memory());
  const int t = thread_id();
  row[t] = static_cast<float>(t);
  if constexpr (kWithBarrier) block_barrier();
  out[t] = t > 0 ? row[t - 1] : 0;
}

TEST_F(Emulation, AnotherScheduleShowsAMissingBarrier) {
  const auto run = [](bool with_barrier, emulation::Order order, std::uint64_t seed) {
    emulation::set_schedule(order, seed);
    std::vector<float> out(64);
    launch({.name = "neighbour", .threads = 64, .shared = 64 * sizeof(float)},
           with_barrier ? neighbour<true> : neighbour<false>, out.data());
    std::vector<std::uint32_t> bits;
    for (const float x : out) bits.push_back(bits_of(x));
    return bits;
  };
  const auto expected = run(true, emulation::Order::forward, 0);
  EXPECT_EQ(run(true, emulation::Order::reverse, 0), expected);
  EXPECT_EQ(run(true, emulation::Order::shuffled, 3), expected);
  // In the order of threads the kernel looks healthy.
  EXPECT_EQ(run(false, emulation::Order::forward, 0), expected);
  EXPECT_NE(run(false, emulation::Order::reverse, 0), expected);
  EXPECT_NE(run(false, emulation::Order::shuffled, 3), expected);
}

GRETA_KERNEL half_barrier() {
  if (thread_id() % 2 == 0) block_barrier();
}
GRETA_KERNEL two_barriers() {
  if (thread_id() < 3)
    block_barrier();
  else
    block_barrier();
}
GRETA_KERNEL barrier_against_shuffle() {
  if (thread_id() < 5)
    block_barrier();
  else
    shuffle(1, 0);
}
GRETA_KERNEL half_shuffle() {
  if (lane_id() != 9) shuffle(1, 0);
}
GRETA_KERNEL healthy() { block_barrier(); }

TEST_F(Emulation, ReportsABarrierThatSomeThreadsNeverReach) {
  const Launch at = {.name = "half", .x = 2, .threads = 64};
  const std::string error = error_of([&] { launch(at, half_barrier); });
  EXPECT_THAT(error, HasSubstr("kernel 'half' of 2x1x1 blocks of 64 threads: in block (0, 0, 0) 32 threads wait at "
                               "emulation_test.cpp:"));
  EXPECT_THAT(error, HasSubstr(" for thread 1, which has finished"));
  launch(at, healthy);  // the emulation goes on after it
}
TEST_F(Emulation, ReportsThreadsAtDifferentBarriers) {
  EXPECT_THAT(error_of([] { launch({.name = "two", .threads = 64}, two_barriers); }),
              HasSubstr("thread 3 calls emulation_test.cpp:"));
}
TEST_F(Emulation, ReportsABarrierAgainstAShuffle) {
  EXPECT_THAT(error_of([] { launch({.name = "mixed", .threads = 64}, barrier_against_shuffle); }),
              HasSubstr("5 threads wait at emulation_test.cpp:"));
}
TEST_F(Emulation, ReportsAShuffleThatALaneDoesNotCall) {
  EXPECT_THAT(error_of([] { launch({.name = "lane", .threads = 64}, half_shuffle); }),
              HasSubstr("for thread 9, which has finished"));
}
TEST_F(Emulation, ReportsAWaveThatIsNotWhole) {
  EXPECT_THAT(error_of([] { launch({.name = "part", .threads = 40}, half_shuffle); }),
              HasSubstr("its wave has 8 of 32 lanes; launch whole waves"));
}

GRETA_KERNEL throws() { fail("thread {} of a kernel", thread_id()); }

TEST_F(Emulation, PassesOnWhatAThreadThrows) {
  EXPECT_EQ(error_of([] { launch({.name = "throws", .threads = 64}, throws); }), "thread 0 of a kernel");
}

GRETA_KERNEL unwritten(std::uint32_t* out) { *out = bits_of(reinterpret_cast<float*>(shared_memory())[1]); }

TEST_F(Emulation, FillsSharedMemoryWithNaN) {
  std::uint32_t bits = 0;
  launch({.name = "unwritten", .threads = 1, .shared = 8}, unwritten, &bits);
  EXPECT_EQ(bits, 0xffffffffu);
}

#if defined(__SANITIZE_ADDRESS__)
GRETA_KERNEL past_the_end() {
  block_barrier();
  shared_memory()[8 * static_cast<std::size_t>(thread_id())] = std::byte{1};
}

TEST_F(Emulation, AddressSanitizerSeesWhatGoesPastSharedMemory) {
  const auto run = [](std::size_t bytes) { launch({.name = "past", .threads = 4, .shared = bytes}, past_the_end); };
  run(25);
  EXPECT_DEATH(run(24), "heap-buffer-overflow");
}
#endif

GRETA_KERNEL trace_of_wave(std::int32_t* out) {
  std::int32_t mine = lane_id() * lane_id();
  wave_together(mine, [](std::span<std::int32_t* const> lanes) {
    std::int32_t sum = 0;
    for (const std::int32_t* lane : lanes) sum += *lane;
    for (std::int32_t* lane : lanes) *lane = sum;
  });
  out[thread_id()] = mine;
}

TEST_F(Emulation, AWaveComputesTogether) {
  std::vector<std::int32_t> out(64);
  launch({.name = "together", .threads = 64}, trace_of_wave, out.data());
  EXPECT_THAT(out, testing::Each(31 * 32 * 63 / 6));
}

GRETA_KERNEL count(std::int32_t* ticket, std::uint64_t* sum) {
  atomic_add(sum, static_cast<std::uint64_t>(atomic_add(ticket, 1)));
}

TEST_F(Emulation, AtomicsGiveTheValueBefore) {
  std::int32_t ticket = 0;
  std::uint64_t sum = 0;
  launch({.name = "count", .x = 10, .threads = 10}, count, &ticket, &sum);
  EXPECT_EQ(sum, 99u * 100 / 2);
}

GRETA_KERNEL double_of(const std::int32_t* in, std::int32_t* out) { out[block_x()] = 2 * in[block_x()]; }

TEST_F(Emulation, KeepsLaunchesForTheGraphThatItsStreamRecords) {
  const std::unique_ptr<Device> device = open_device("emulated", 0);
  auto* in = reinterpret_cast<std::int32_t*>(device->allocate(12, "in"));
  auto* out = reinterpret_cast<std::int32_t*>(device->allocate(12, "out"));
  const Launch at = {.name = "double", .stream = device->stream(), .x = 3};
  device->begin_capture();
  launch(at, double_of, in, out);
  const std::unique_ptr<Graph> graph = device->end_capture();
  EXPECT_EQ(out[0], -1) << "a capture runs nothing";  // 0xff bytes
  for (const int value : {5, 6}) {
    std::fill(in, in + 3, value);
    graph->replay();
    EXPECT_THAT(std::vector<int>(out, out + 3), testing::Each(2 * value));
  }
  launch(at, double_of, in, out);
  EXPECT_EQ(last_launch(), "kernel 'double' of 3x1x1 blocks of 1 threads, 0 bytes shared");
}

TEST_F(Emulation, RefusesWhatHardwareWouldRefuse) {
  EXPECT_EQ(error_of([] { launch({.name = "wide", .threads = 1025}, healthy); }),
            "kernel 'wide' of 1x1x1 blocks of 1025 threads, 0 bytes shared: a block has 1 to 1024 threads");
  EXPECT_THAT(error_of([] { launch({.name = "no", .x = 0, .threads = 32}, healthy); }), HasSubstr("kernel 'no' of 0x1x1"));
  EXPECT_THAT(error_of([] { launch({.name = "lds", .threads = 32, .shared = 240000}, healthy); }),
              HasSubstr("at most 232448 bytes of shared memory"));
}

}  // namespace
}  // namespace greta::gpu::emulated32
