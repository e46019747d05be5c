// Memory, copies, streams and graphs of every device; which devices there are.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <string>
#include <vector>

#include "core/error.h"
#include "ops/gpu/emulated_device.h"
#include "ops/gpu/launch.h"
#include "tests/gpu/devices.h"
#include "tests/gpu/error_of.h"

namespace greta::gpu {
namespace {

using testing::AllOf;
using testing::Each;
using testing::HasSubstr;
using testing::MatchesRegex;

std::vector<int> numbers(std::size_t n, int from = 0) {
  std::vector<int> values(n);
  std::iota(values.begin(), values.end(), from);
  return values;
}

class DeviceMemory : public DeviceTest {};

TEST_P(DeviceMemory, ReturnsWhatWasUploaded) {
  const std::vector<int> values = numbers(1001);
  const DeviceArray<int> array(device(), values);
  EXPECT_EQ(array.download(), values);
}

TEST_P(DeviceMemory, TakesPartsOfAnAllocation) {
  const DeviceArray<int> from(device(), numbers(100));
  const DeviceArray<int> to(device(), numbers(100, 1000));
  device().copy(to.bytes() + 10 * sizeof(int), from.bytes() + 50 * sizeof(int), 5 * sizeof(int), stream());
  device().fill(to.bytes() + 20 * sizeof(int), 0x01, 2 * sizeof(int), stream());
  std::vector<int> expected = numbers(100, 1000);
  for (std::size_t i = 0; i < 5; ++i) expected[10 + i] = static_cast<int>(50 + i);
  expected[20] = expected[21] = 0x01010101;
  EXPECT_EQ(to.download(), expected);
}

TEST_P(DeviceMemory, IsCountedAndGivenBack) {
  const std::size_t before = device().free_memory();
  std::byte* memory = device().allocate(64 << 20, "a test");
  EXPECT_LE(device().free_memory(), before - (64 << 20));
  device().release(memory);
  EXPECT_GE(device().free_memory(), before - (2 << 20));  // a driver may keep something for itself
}

TEST_P(DeviceMemory, SaysWhatDidNotFit) {
  const std::string error = error_of([&] { device().allocate(std::size_t{1} << 50, "the KV cache"); });
  EXPECT_THAT(error, AllOf(HasSubstr(device().info().name),
                           HasSubstr("no memory for the KV cache: 1125899906842624 bytes wanted, "), HasSubstr(" free; ")));
  EXPECT_GT(DeviceArray<int>(device(), 10).size(), 0u);  // and goes on
}

TEST_P(DeviceMemory, OrdersStreams) {
  const DeviceArray<int> first(device(), numbers(1 << 20));
  const DeviceArray<int> second(device(), std::size_t{1} << 20);
  std::byte* host = device().allocate_host(second.size() * sizeof(int), "a test");
  device().order(stream(), device().side_stream());
  device().copy(second.bytes(), first.bytes(), second.size() * sizeof(int), device().side_stream());
  device().order(device().side_stream(), stream());
  device().download(host, second.bytes(), second.size() * sizeof(int), stream());
  device().synchronize(stream());
  EXPECT_EQ(std::memcmp(host, numbers(1 << 20).data(), second.size() * sizeof(int)), 0);
  device().release_host(host);
}

TEST_P(DeviceMemory, ReplaysAGraphOnWhatIsThereThen) {
  const DeviceArray<int> from(device(), numbers(100));
  const DeviceArray<int> middle(device(), std::vector<int>(100, -1));
  const DeviceArray<int> to(device(), std::vector<int>(100, -1));
  const std::size_t bytes = 100 * sizeof(int);
  device().begin_capture();
  device().copy(middle.bytes(), from.bytes(), bytes, stream());
  device().order(stream(), device().side_stream());
  device().copy(to.bytes(), middle.bytes(), bytes, device().side_stream());
  device().order(device().side_stream(), stream());
  device().fill(middle.bytes(), 0, bytes, stream());
  const std::unique_ptr<Graph> graph = device().end_capture();
  EXPECT_THAT(to.download(), Each(-1)) << "a capture runs nothing";
  for (const int start : {0, 500}) {
    device().upload(from.bytes(), numbers(100, start).data(), bytes, stream());
    graph->replay();
    EXPECT_EQ(to.download(), numbers(100, start));
    EXPECT_THAT(middle.download(), Each(0));
  }
}

TEST_P(DeviceMemory, RefusesAGraphWhoseSideStreamIsNotWaitedFor) {
  const DeviceArray<int> array(device(), numbers(100));
  device().begin_capture();
  device().order(stream(), device().side_stream());
  device().fill(array.bytes(), 0, 400, device().side_stream());
  EXPECT_THAT(error_of([&] { device().end_capture(); }), HasSubstr("end_capture: "));
  EXPECT_EQ(array.download(), numbers(100));  // and goes on
}

TEST_P(DeviceMemory, RefusesCapturesThatDoNotNest) {
  EXPECT_THAT(error_of([&] { device().end_capture(); }), HasSubstr("end_capture without begin_capture"));
  device().begin_capture();
  EXPECT_THAT(error_of([&] { device().begin_capture(); }), HasSubstr("begin_capture while a graph is captured"));
  device().end_capture();
}

TEST_P(DeviceMemory, TakesTheTimeOfAStream) {
  const DeviceArray<int> array(device(), std::size_t{1} << 20);
  device().start_clock(stream());
  device().fill(array.bytes(), 0, array.size() * sizeof(int), stream());
  const double seconds = device().stop_clock(stream());
  EXPECT_GT(seconds, 0);
  EXPECT_LT(seconds, 60);
}

TEST_P(DeviceMemory, KnowsItself) {
  const DeviceInfo& info = device().info();
  EXPECT_EQ(info.backend, GetParam().backend);
  EXPECT_EQ(info.index, GetParam().index);
  EXPECT_TRUE(info.wave == 32 || info.wave == 64);
  EXPECT_THAT(info.architecture, MatchesRegex("sm_[0-9]+|gfx[0-9a-f]+|wave(32|64)"));
  EXPECT_FALSE(info.driver.empty());
  EXPECT_GT(info.multiprocessors, 0);
  EXPECT_LE(device().free_memory(), info.memory);
}

GRETA_ON_ALL_DEVICES(DeviceMemory);

TEST(EmulatedDevice, NamesWhatDidNotFitAndWhatIsFree) {
  const std::unique_ptr<Device> device = open_emulated(1, 1000);
  device->allocate(600, "weights");
  EXPECT_EQ(error_of([&] { device->allocate(401, "the KV cache"); }),
            "emulated device 1 (CPU, waves of 64 lanes): no memory for the KV cache: 401 bytes wanted, 400 free; use a smaller "
            "model, context or batch");
}

TEST(EmulatedDevice, HoldsCopiesToTheirAllocation) {
  const std::unique_ptr<Device> device = open_emulated(0, 1000);
  std::byte* memory = device->allocate(100, "scores");
  std::byte host[200] = {};
  EXPECT_THAT(error_of([&] { device->upload(memory + 40, host, 61, device->stream()); }),
              HasSubstr("upload of 61 bytes from byte 40 of scores, which has 100"));
  EXPECT_THAT(error_of([&] { device->download(host, host, 1, device->stream()); }), HasSubstr("download of 1 bytes"));
  EXPECT_THAT(error_of([&] { device->fill(memory, 0, 1, &host); }), HasSubstr("a stream of another device"));
}

/// Odd seeds of jitter: a copy out of page-locked memory runs when its stream goes on, and not before.
TEST(EmulatedDevice, CopiesLateWhereItIsToldTo) {
  const std::unique_ptr<Device> device = open_emulated(0, 1000);
  std::byte* memory = device->allocate(1, "a number");
  std::byte* other = device->allocate(1, "another");
  std::byte* locked = device->allocate_host(1, "a test");
  const auto held = [&](std::uint64_t seed, const std::function<void()>& meanwhile) {
    device->jitter(seed);
    *locked = std::byte{1};
    device->upload(memory, locked, 1, device->stream());
    *locked = std::byte{2};
    meanwhile();
    *locked = std::byte{3};
    std::byte found{};
    device->download(&found, memory, 1, device->stream());
    device->jitter(0);
    return std::to_integer<int>(found);
  };
  const auto nothing = [] {};
  EXPECT_EQ(held(0, nothing), 1);
  EXPECT_EQ(held(2, nothing), 1);
  EXPECT_EQ(held(1, nothing), 3);
  EXPECT_EQ(held(3, [&] { device->synchronize(device->side_stream()); }), 3);
  EXPECT_EQ(held(3, [&] { device->fill(other, 0, 1, device->side_stream()); }), 3);
  EXPECT_EQ(held(3, [&] { device->fill(other, 0, 1, device->stream()); }), 2);
  EXPECT_EQ(held(3, [&] { device->synchronize(device->stream()); }), 2);
  EXPECT_EQ(held(3, [&] { device->order(device->stream(), device->side_stream()); }), 2);
  EXPECT_EQ(held(3, [&] { device->jitter(5); }), 2);
  std::byte pageable{1}, found{};
  device->jitter(1);
  device->upload(memory, &pageable, 1, device->stream());
  pageable = std::byte{2};
  device->download(&found, memory, 1, device->stream());
  EXPECT_EQ(found, std::byte{1});  // may be reused when the call returns
  device->release_host(locked);
}

TEST(Launches, AreWaitedForOnDemandButNotInACapture) {
  const std::unique_ptr<Device> device = open_emulated(0, 1000);
  const Launch at = {.name = "qk", .x = 32, .y = 4, .threads = 128, .shared = 64};
  EXPECT_FALSE(note_launch(at));
  EXPECT_EQ(last_launch(), "kernel 'qk' of 32x4x1 blocks of 128 threads, 64 bytes shared");
  wait_for_launches(true);
  EXPECT_TRUE(note_launch(at));
  device->begin_capture();
  EXPECT_FALSE(note_launch(at));
  device->end_capture();
  EXPECT_TRUE(note_launch(at));
  wait_for_launches(false);
  EXPECT_FALSE(note_launch(at));
}

TEST(Backends, AreListedWithTheirReasons) {
  const std::vector<BackendState> states = backend_states();
  ASSERT_EQ(states.size(), 3u);
  EXPECT_EQ(states[0].name, "cuda");
  EXPECT_EQ(states[1].name, "hip");
  EXPECT_EQ(states[2].name, "emulated");
  for (const BackendState& state : states) {
    std::printf("%s: %s\n", state.name.c_str(), state.why.empty() ? state.devices[0].name.c_str() : state.why.c_str());
    const bool usable = std::any_of(state.devices.begin(), state.devices.end(), std::mem_fn(&DeviceInfo::usable));
    EXPECT_EQ(usable, state.why.empty()) << state.name;
    EXPECT_EQ(!state.built, state.why.starts_with("not built: ")) << state.why;
  }
  EXPECT_EQ(states[2].devices.size(), 2u);
}

TEST(Backends, SayWhyADeviceCannotBeOpened) {
  EXPECT_EQ(error_of([] { open_device("cudda", 0); }),
            "GPU backend 'cudda' is not known; did you mean 'cuda'; known: cuda, hip, emulated");
  EXPECT_EQ(
      error_of([] { open_device("emulated", 2); }),
      "backend 'emulated' has no device 2; there are: 0 (CPU, waves of 32 lanes, wave32), 1 (CPU, waves of 64 lanes, wave64)");
  for (const BackendState& state : backend_states()) {
    if (state.built && state.why.empty()) {
      EXPECT_THAT(error_of([&] { open_device(state.name, 99); }), HasSubstr("has no device 99; there are: 0 ("));
    } else if (state.built) {
      EXPECT_EQ(error_of([&] { open_device(state.name, 0); }), "backend '" + state.name + "' has no device: " + state.why);
    } else {
      EXPECT_THAT(error_of([&] { open_device(state.name, 0); }),
                  HasSubstr("backend '" + state.name + "' is not in this build: greta was configured with GRETA_"));
    }
  }
}

}  // namespace
}  // namespace greta::gpu
