#include "ops/gpu/emulated_device.h"

#include <unistd.h>

#include <array>
#include <chrono>
#include <cstring>
#include <functional>
#include <iterator>
#include <map>
#include <string>
#include <utility>

#include "core/error.h"
#include "ops/gpu/emulated_blocks.h"
#include "ops/gpu/launch.h"

namespace greta::gpu {

namespace emulated32 {
const KernelTable& kernel_table();
}
namespace emulated64 {
const KernelTable& kernel_table();
}

namespace {

using Work = std::vector<std::function<void()>>;

/// A stream. What is queued runs at once, or goes to the graph being recorded; but copies that may be late wait until the next
/// work of the stream, or whoever waits for it.
class EmulatedQueue final : public emulation::Queue {
 public:
  bool recording() const override { return capturing() || !late_.empty(); }
  void record(std::function<void()> work) override { run(std::move(work)); }
  bool capturing() const { return to_ != nullptr; }
  void run(std::function<void()> work) {
    if (capturing()) {
      to_->push_back(std::move(work));
      joined_ = false;
      return;
    }
    finish();
    work();
  }
  void run_late(std::function<void()> work) { late_.push_back(std::move(work)); }
  /// Runs what is late.
  void finish() {
    for (const auto& work : std::exchange(late_, {})) work();
  }
  void record_to(Work* to) {
    to_ = to;
    joined_ = true;
  }
  Work* recorded() const { return to_; }
  /// Whether the main stream waits for all that this one has recorded.
  bool joined() const { return joined_; }
  void set_joined() { joined_ = true; }

  std::chrono::steady_clock::time_point clock;

 private:
  Work* to_ = nullptr;
  Work late_;
  bool joined_ = true;
};

class EmulatedGraph final : public Graph {
 public:
  EmulatedGraph(Work work, EmulatedQueue& queue) : work_(std::move(work)), queue_(queue) {}
  void replay() override {
    queue_.finish();
    for (const auto& step : work_) step();
  }

 private:
  Work work_;
  EmulatedQueue& queue_;  // of the device, which outlives its graphs
};

class EmulatedDevice final : public Device {
 public:
  EmulatedDevice(DeviceInfo info, const KernelTable& kernels) : info_(std::move(info)), kernels_(kernels) {}
  ~EmulatedDevice() override { set_capturing(false); }

  const DeviceInfo& info() const override { return info_; }
  const KernelTable& kernels() const override { return kernels_; }
  std::size_t free_memory() const override { return info_.memory - used_; }

  std::byte* allocate(std::size_t bytes, std::string_view what) override {
    if (bytes > free_memory())
      fail("{}: no memory for {}: {} bytes wanted, {} free; use a smaller model, context or batch", label(), what, bytes,
           free_memory());
    // Exactly as many bytes as asked for, so that AddressSanitizer sees what goes past them; nothing in them is a number.
    std::unique_ptr<std::byte[]> memory(new std::byte[bytes]);
    std::memset(memory.get(), 0xff, bytes);
    used_ += bytes;
    std::byte* address = memory.get();
    blocks_.emplace(address, Block{std::move(memory), bytes, std::string(what)});
    return address;
  }
  void release(std::byte* memory) noexcept override {
    const auto found = blocks_.find(memory);
    if (found == blocks_.end()) return;
    finish_all();
    used_ -= found->second.bytes;
    blocks_.erase(found);
  }
  std::byte* allocate_host(std::size_t bytes, std::string_view what) override {
    try {
      std::byte* memory = new std::byte[bytes];
      locked_.emplace(memory, bytes);
      return memory;
    } catch (const std::bad_alloc&) {
      fail("{}: no page-locked host memory for {}: {} bytes wanted", label(), what, bytes);
    }
  }
  void release_host(std::byte* memory) noexcept override {
    finish_all();
    locked_.erase(memory);
    delete[] memory;
  }

  void upload(std::byte* to, const void* from_host, std::size_t bytes, Stream stream) override {
    check(to, bytes, "upload");
    EmulatedQueue& at = queue(stream);
    run_copy(at, from_host, [=] { std::memcpy(to, from_host, bytes); });
  }
  void download(void* to_host, const std::byte* from, std::size_t bytes, Stream stream) override {
    check(from, bytes, "download");
    run_copy(queue(stream), to_host, [=] { std::memcpy(to_host, from, bytes); });
  }
  void copy(std::byte* to, const std::byte* from, std::size_t bytes, Stream stream) override {
    check(from, bytes, "copy");
    check(to, bytes, "copy");
    queue(stream).run([=] { std::memcpy(to, from, bytes); });
  }
  void fill(std::byte* to, int value, std::size_t bytes, Stream stream) override {
    check(to, bytes, "fill");
    queue(stream).run([=] { std::memset(to, value, bytes); });
  }

  Stream stream() const override { return &queues_[0]; }
  Stream side_stream() const override { return &queues_[1]; }
  void order(Stream earlier, Stream later) override {
    EmulatedQueue& before = queue(earlier);
    EmulatedQueue& after = queue(later);
    if (before.capturing() && !after.capturing()) after.record_to(before.recorded());
    before.finish();
    if (&after == queues_.data()) before.set_joined();
  }
  void synchronize(Stream stream) override {
    if (queue(stream).capturing()) fail("{}: synchronize while a graph is captured", label());
    queue(stream).finish();
  }

  void begin_capture() override {
    if (queues_[0].capturing()) fail("{}: begin_capture while a graph is captured", label());
    finish_all();
    recorded_.clear();
    queues_[0].record_to(&recorded_);
    set_capturing(true);
  }
  std::unique_ptr<Graph> end_capture() override {
    if (!queues_[0].capturing()) fail("{}: end_capture without begin_capture", label());
    const bool joined = queues_[1].joined();
    for (EmulatedQueue& each : queues_) each.record_to(nullptr);
    set_capturing(false);
    if (!joined) fail("{}: end_capture: the side stream has work that the main stream does not wait for; order them", label());
    return std::make_unique<EmulatedGraph>(std::exchange(recorded_, {}), queues_[0]);
  }

  /// Odd seeds: copies out of page-locked memory run as late as the order of their stream lets them.
  void jitter(std::uint64_t seed) override {
    finish_all();
    copies_late_ = seed % 2 == 1;
    emulation::set_schedule(seed == 0 ? emulation::Order::forward : emulation::Order::shuffled, seed);
  }
  void start_clock(Stream stream) override { queue(stream).clock = std::chrono::steady_clock::now(); }
  double stop_clock(Stream stream) override {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - queue(stream).clock).count();
  }

 private:
  struct Block {
    std::unique_ptr<std::byte[]> memory;
    std::size_t bytes = 0;
    std::string what;
  };

  std::string label() const { return fmt::format("emulated device {} ({})", info_.index, info_.name); }

  void finish_all() const {
    for (EmulatedQueue& each : queues_) each.finish();
  }
  /// A copy from or to memory of the host, late where it may be.
  void run_copy(EmulatedQueue& at, const void* host, std::function<void()> work) {
    if (copies_late_ && !at.capturing() && is_locked(static_cast<const std::byte*>(host)))
      at.run_late(std::move(work));
    else
      at.run(std::move(work));
  }
  bool is_locked(const std::byte* memory) const {
    const auto after = locked_.upper_bound(memory);
    if (after == locked_.begin()) return false;
    const auto& [begin, bytes] = *std::prev(after);
    return memory < begin + bytes;
  }

  EmulatedQueue& queue(Stream stream) const {
    for (EmulatedQueue& each : queues_)
      if (&each == stream) return each;
    fail("{}: a stream of another device", label());
  }

  void check(const std::byte* begin, std::size_t bytes, const char* call) const {
    auto found = blocks_.upper_bound(begin);
    if (found == blocks_.begin()) fail("{}: {} of {} bytes outside the device's memory", label(), call, bytes);
    const auto& [start, block] = *--found;
    const auto offset = static_cast<std::size_t>(begin - start);
    if (offset > block.bytes || bytes > block.bytes - offset)
      fail("{}: {} of {} bytes from byte {} of {}, which has {}", label(), call, bytes, offset, block.what, block.bytes);
  }

  DeviceInfo info_;
  const KernelTable& kernels_;
  mutable std::array<EmulatedQueue, 2> queues_;  // a Stream is an address in it
  std::map<const std::byte*, Block, std::less<>> blocks_;
  std::map<const std::byte*, std::size_t, std::less<>> locked_;  // page-locked memory: its bytes
  bool copies_late_ = false;
  std::size_t used_ = 0;
  Work recorded_;
};

}  // namespace

std::size_t machine_memory() {
  return static_cast<std::size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

std::vector<DeviceInfo> emulated_devices(std::size_t memory) {
  std::vector<DeviceInfo> devices;
  for (const int wave : {32, 64})
    devices.push_back({.backend = "emulated",
                       .index = static_cast<int>(devices.size()),
                       .name = fmt::format("CPU, waves of {} lanes", wave),
                       .architecture = fmt::format("wave{}", wave),
                       .driver = "none",
                       .memory = memory,
                       .wave = wave,
                       .multiprocessors = 1});
  return devices;
}

std::unique_ptr<Device> open_emulated(int index, std::size_t memory) {
  const std::vector<DeviceInfo> devices = emulated_devices(memory);
  if (index < 0 || index >= static_cast<int>(devices.size()))
    fail("backend 'emulated' has no device {}; there are 0 (waves of 32 lanes) and 1 (waves of 64)", index);
  const DeviceInfo& info = devices[static_cast<std::size_t>(index)];
  return std::make_unique<EmulatedDevice>(info, info.wave == 64 ? emulated64::kernel_table() : emulated32::kernel_table());
}

}  // namespace greta::gpu
