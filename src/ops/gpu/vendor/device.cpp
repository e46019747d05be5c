// A GPU of NVIDIA or AMD, over the runtime of its vendor.
#include <algorithm>
#include <array>
#include <chrono>
#include <functional>
#include <string>
#include <thread>
#include <utility>

#include "core/error.h"
#include "ops/gpu/launch.h"
#include "ops/gpu/vendor/backend.h"
#include "ops/gpu/vendor/runtime.h"

namespace greta::gpu::GRETA_GPU_VENDOR {

const KernelTable& kernel_table();

namespace {

using Status = GPU(Error_t);

class VendorGraph final : public Graph {
 public:
  VendorGraph(std::string label, GPU(GraphExec_t) made, GPU(Stream_t) stream)
      : label_(std::move(label)), made_(made), stream_(stream) {}
  ~VendorGraph() override { static_cast<void>(GPU(GraphExecDestroy)(made_)); }
  void replay() override {
    note_work("the replay of a graph");
    if (const Status status = GPU(GraphLaunch)(made_, stream_); status != GPU(Success))
      fail("{}: replay of a graph: {}", label_, GPU(GetErrorString)(status));
  }

 private:
  std::string label_;
  GPU(GraphExec_t) made_;
  GPU(Stream_t) stream_;
};

/// A stream with the events that time it.
struct Queue {
  GPU(Stream_t) stream = nullptr;
  GPU(Event_t) begin = nullptr, end = nullptr;
};

class VendorDevice final : public Device {
 public:
  explicit VendorDevice(DeviceInfo info);
  ~VendorDevice() override;

  const DeviceInfo& info() const override { return info_; }
  /// Kernels run on the thread's current device, so that becomes this one.
  const KernelTable& kernels() const override {
    use();
    return kernel_table();
  }
  std::size_t free_memory() const override;

  std::byte* allocate(std::size_t bytes, std::string_view what) override;
  void release(std::byte* memory) noexcept override;
  std::byte* allocate_host(std::size_t bytes, std::string_view what) override;
  void release_host(std::byte* memory) noexcept override;

  void upload(std::byte* to, const void* from_host, std::size_t bytes, Stream stream) override {
    transfer("upload", to, from_host, bytes, GPU(MemcpyHostToDevice), stream);
  }
  void download(void* to_host, const std::byte* from, std::size_t bytes, Stream stream) override {
    transfer("download", to_host, from, bytes, GPU(MemcpyDeviceToHost), stream);
  }
  void copy(std::byte* to, const std::byte* from, std::size_t bytes, Stream stream) override {
    transfer("copy", to, from, bytes, GPU(MemcpyDeviceToDevice), stream);
  }
  void fill(std::byte* to, int value, std::size_t bytes, Stream stream) override {
    use();
    if (bytes > 0) check(GPU(MemsetAsync)(to, value, bytes, native(stream)), "fill");
  }

  void jitter(std::uint64_t seed) override {
    jitter_ = seed;
    if (seed != 0 && spare_ == nullptr) spare_ = allocate(kSpare, "memory to disturb the timing with");
  }

  Stream stream() const override {
    use();
    if (jitter_ != 0) disturb();
    return queues_[0].stream;
  }
  Stream side_stream() const override {
    use();
    return queues_[1].stream;
  }
  void order(Stream earlier, Stream later) override;
  void synchronize(Stream stream) override;

  void begin_capture() override;
  std::unique_ptr<Graph> end_capture() override;

  void start_clock(Stream stream) override;
  double stop_clock(Stream stream) override;

 private:
  static GPU(Stream_t) native(Stream stream) { return static_cast<GPU(Stream_t)>(stream); }
  std::string label() const { return fmt::format("{} device {} ({})", info_.backend, info_.index, info_.name); }
  void use() const { check(GPU(SetDevice)(info_.index), "choice of the device"); }
  void check(Status status, const char* call) const;
  void transfer(const char* call, void* to, const void* from, std::size_t bytes, GPU(MemcpyKind) kind, Stream stream);
  Queue& queue(Stream stream) { return stream == queues_[1].stream ? queues_[1] : queues_[0]; }

  /// Pauses, or fills spare memory on a stream of its own, or neither.
  void disturb() const {
    if (capturing_) return;
    jitter_ = jitter_ * 6364136223846793005u + 1442695040888963407u;
    const std::uint64_t drawn = jitter_ >> 33;
    if (drawn % 3 == 0)
      static_cast<void>(GPU(MemsetAsync)(spare_, 0, drawn / 3 % kSpare, queues_[1].stream));
    else if (drawn % 3 == 1)
      std::this_thread::sleep_for(std::chrono::microseconds(drawn / 3 % 50));
  }

  static constexpr std::size_t kSpare = std::size_t{64} << 20;
  mutable std::uint64_t jitter_ = 0;
  std::byte* spare_ = nullptr;
  DeviceInfo info_;
  std::array<Queue, 2> queues_{};
  GPU(Event_t) order_ = nullptr;
  bool capturing_ = false;
};

/// A kernel's error shows in whatever call comes after it, hence the last launch; without any, the call itself failed.
void VendorDevice::check(Status status, const char* call) const {
  if (status == GPU(Success)) return;
  static_cast<void>(GPU(GetLastError)());  // or the next call would report it again
  const std::string last = last_launch();
  fail("{}: {}: {}{}", label(), call, GPU(GetErrorString)(status),
       last.empty() ? "" : fmt::format(" (the last launch was {})", last));
}

VendorDevice::VendorDevice(DeviceInfo info) : info_(std::move(info)) {
  use();
  for (Queue& each : queues_) {
    check(GPU(StreamCreateWithFlags)(&each.stream, GPU(StreamNonBlocking)), "creation of a stream");
    check(GPU(EventCreate)(&each.begin), "creation of an event");
    check(GPU(EventCreate)(&each.end), "creation of an event");
  }
  check(GPU(EventCreateWithFlags)(&order_, GPU(EventDisableTiming)), "creation of an event");
}

VendorDevice::~VendorDevice() {
  static_cast<void>(GPU(SetDevice)(info_.index));
  static_cast<void>(GPU(Free)(spare_));
  if (capturing_) {
    GPU(Graph_t) graph = nullptr;
    static_cast<void>(GPU(StreamEndCapture)(queues_[0].stream, &graph));
    if (graph != nullptr) static_cast<void>(GPU(GraphDestroy)(graph));
    set_capturing(false);
  }
  for (const Queue& each : queues_) {
    static_cast<void>(GPU(StreamSynchronize)(each.stream));
    static_cast<void>(GPU(EventDestroy)(each.begin));
    static_cast<void>(GPU(EventDestroy)(each.end));
    static_cast<void>(GPU(StreamDestroy)(each.stream));
  }
  static_cast<void>(GPU(EventDestroy)(order_));
}

std::size_t VendorDevice::free_memory() const {
  use();
  std::size_t free = 0, total = 0;
  check(GPU(MemGetInfo)(&free, &total), "question for free memory");
  return free;
}

std::byte* VendorDevice::allocate(std::size_t bytes, std::string_view what) {
  const std::size_t free = free_memory();
  void* memory = nullptr;
  // Asked first: some drivers meet an impossible request by moving memory to the host.
  Status status = bytes > free ? GPU(ErrorMemoryAllocation) : GPU(Malloc)(&memory, bytes > 0 ? bytes : 1);
  if (status == GPU(ErrorMemoryAllocation)) {
    static_cast<void>(GPU(GetLastError)());
    fail("{}: no memory for {}: {} bytes wanted, {} free; use a smaller model, context or batch", label(), what, bytes, free);
  }
  check(status, "allocation");
  return static_cast<std::byte*>(memory);
}
void VendorDevice::release(std::byte* memory) noexcept {
  static_cast<void>(GPU(SetDevice)(info_.index));
  static_cast<void>(GPU(Free)(memory));
}
std::byte* VendorDevice::allocate_host(std::size_t bytes, std::string_view what) {
  use();
  void* memory = nullptr;
  if (const Status status = allocate_locked(&memory, bytes > 0 ? bytes : 1); status != GPU(Success)) {
    static_cast<void>(GPU(GetLastError)());
    fail("{}: no page-locked host memory for {}: {} bytes wanted: {}", label(), what, bytes, GPU(GetErrorString)(status));
  }
  return static_cast<std::byte*>(memory);
}
void VendorDevice::release_host(std::byte* memory) noexcept { static_cast<void>(release_locked(memory)); }

void VendorDevice::transfer(const char* call, void* to, const void* from, std::size_t bytes, GPU(MemcpyKind) kind,
                            Stream stream) {
  use();
  if (bytes > 0) check(GPU(MemcpyAsync)(to, from, bytes, kind, native(stream)), call);
}

void VendorDevice::order(Stream earlier, Stream later) {
  use();
  check(GPU(EventRecord)(order_, native(earlier)), "order of two streams");
  check(GPU(StreamWaitEvent)(native(later), order_, 0), "order of two streams");
}
void VendorDevice::synchronize(Stream stream) {
  use();
  check(GPU(StreamSynchronize)(native(stream)), "wait for a stream");
}

void VendorDevice::begin_capture() {
  if (capturing_) fail("{}: begin_capture while a graph is captured", label());
  use();
  // Thread-local: what this thread may not do while it captures is an error, what others do is their own affair.
  check(GPU(StreamBeginCapture)(queues_[0].stream, GPU(StreamCaptureModeThreadLocal)), "begin_capture");
  capturing_ = true;
  set_capturing(true);
}
std::unique_ptr<Graph> VendorDevice::end_capture() {
  if (!capturing_) fail("{}: end_capture without begin_capture", label());
  use();
  capturing_ = false;
  set_capturing(false);
  GPU(Graph_t) graph = nullptr;
  check(GPU(StreamEndCapture)(queues_[0].stream, &graph), "end_capture");
  GPU(GraphExec_t) made = nullptr;
  const Status status = instantiate(&made, graph);
  static_cast<void>(GPU(GraphDestroy)(graph));
  check(status, "end_capture");
  return std::make_unique<VendorGraph>(label(), made, queues_[0].stream);
}

void VendorDevice::start_clock(Stream stream) {
  use();
  check(GPU(EventRecord)(queue(stream).begin, native(stream)), "start_clock");
}
double VendorDevice::stop_clock(Stream stream) {
  use();
  const Queue& timed = queue(stream);
  check(GPU(EventRecord)(timed.end, native(stream)), "stop_clock");
  check(GPU(EventSynchronize)(timed.end), "stop_clock");
  float milliseconds = 0;
  check(GPU(EventElapsedTime)(&milliseconds, timed.begin, timed.end), "stop_clock");
  return double{milliseconds} / 1000;
}

std::string versions() {
  int driver = 0, runtime = 0;
  static_cast<void>(GPU(DriverGetVersion)(&driver));
  static_cast<void>(GPU(RuntimeGetVersion)(&runtime));
  return fmt::format("driver {}, runtime {}", version_text(driver), version_text(runtime));
}

/// Whether the build has kernels for the device: GRETA_GPU_ARCHITECTURES, "90a,100a", one after the other.
bool built_for(const Properties& properties) {
  std::string_view rest = GRETA_GPU_ARCHITECTURES;
  while (!rest.empty()) {
    const std::size_t end = rest.find(',');
    if (runs_on(std::string(rest.substr(0, end)), properties)) return true;
    rest = end == std::string_view::npos ? "" : rest.substr(end + 1);
  }
  return false;
}

DeviceInfo info_of(int index) {
  DeviceInfo info{.backend = kBackend, .index = index, .name = "", .architecture = "", .driver = versions()};
  Properties properties{};
  if (const Status status = GPU(GetDeviceProperties)(&properties, index); status != GPU(Success)) {
    static_cast<void>(GPU(GetLastError)());  // or the next call would report it again
    info.unusable = fmt::format("device {} does not tell its properties: {}", index, GPU(GetErrorString)(status));
    return info;
  }
  info.name = properties.name;
  info.architecture = architecture_of(properties);
  info.memory = properties.totalGlobalMem;
  info.wave = properties.warpSize;
  info.multiprocessors = properties.multiProcessorCount;
  if (!built_for(properties) || info.wave != kBuiltWave)
    info.unusable = fmt::format(
        "device {} ({}) is a {} with waves of {} lanes; this build has kernels for {} with waves of {}; configure with its "
        "architecture (docs/mi300x.md)",
        index, info.name, info.architecture, info.wave, GRETA_GPU_ARCHITECTURES, kBuiltWave);
  return info;
}

std::string why_not(Status status) {
  int driver = 0;
  static_cast<void>(GPU(DriverGetVersion)(&driver));
  static_cast<void>(GPU(GetLastError)());
  if (driver == 0) return fmt::format("no {} driver is loaded ({})", kMaker, GPU(GetErrorString)(status));
  if (status == GPU(ErrorInsufficientDriver)) return fmt::format("the {} driver is too old: {}; update it", kMaker, versions());
  if (status == GPU(ErrorNoDevice)) return fmt::format("no {} GPU is visible in this machine ({})", kMaker, versions());
  return fmt::format("{} ({})", GPU(GetErrorString)(status), versions());
}

}  // namespace

std::vector<DeviceInfo> devices(std::string& why) {
  int n = 0;
  if (const Status status = GPU(GetDeviceCount)(&n); status != GPU(Success)) {
    why = why_not(status);
    return {};
  }
  if (n == 0) why = why_not(GPU(ErrorNoDevice));
  std::vector<DeviceInfo> found;
  for (int index = 0; index < n; ++index) found.push_back(info_of(index));
  if (n > 0 && std::none_of(found.begin(), found.end(), std::mem_fn(&DeviceInfo::usable))) why = found.front().unusable;
  return found;
}

std::unique_ptr<Device> open(int index) {
  std::string why;
  const std::vector<DeviceInfo> found = devices(why);
  if (index < 0 || index >= static_cast<int>(found.size())) fail("backend '{}' has no device {}: {}", kBackend, index, why);
  const DeviceInfo& info = found[static_cast<std::size_t>(index)];
  if (!info.usable()) fail("backend '{}': {}", kBackend, info.unusable);
  return std::make_unique<VendorDevice>(info);
}

}  // namespace greta::gpu::GRETA_GPU_VENDOR
