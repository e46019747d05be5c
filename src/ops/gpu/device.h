// A GPU as the host sees it: memory, copies, a queue, graphs and the table of kernels. One implementation a backend
// (device_*.cpp); nothing of a vendor here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "ops/gpu/kernels.h"

namespace greta::gpu {

struct DeviceInfo {
  std::string backend;  // "cuda", "hip", "emulated"
  int index = 0;
  std::string name;          // "NVIDIA H200"
  std::string architecture;  // "sm_90", "gfx942", "wave32"
  std::string driver;        // versions, as the vendor prints them
  std::size_t memory = 0;    // bytes
  int wave = 32;
  int multiprocessors = 0;
  std::string unusable = {};  // why it cannot be opened; empty: it can
  bool usable() const { return unusable.empty(); }
};

/// A captured sequence of launches and copies.
class Graph {
 public:
  virtual ~Graph() = default;
  /// Queues all of it on the device's stream.
  virtual void replay() = 0;
};

/// Not for several threads at once. Every function throws Error: one line with the call, the device and the driver's words;
/// an exhausted memory names what was to be allocated, its bytes and the bytes free.
class Device {
 public:
  virtual ~Device() = default;
  virtual const DeviceInfo& info() const = 0;
  virtual const KernelTable& kernels() const = 0;
  virtual std::size_t free_memory() const = 0;  // bytes

  virtual std::byte* allocate(std::size_t bytes, std::string_view what) = 0;
  virtual void release(std::byte* memory) noexcept = 0;
  /// Page-locked host memory, for copies that overlap.
  virtual std::byte* allocate_host(std::size_t bytes, std::string_view what) = 0;
  virtual void release_host(std::byte* memory) noexcept = 0;

  /// In order with the kernels of `stream`. Host memory that is not page-locked may be reused when the call returns.
  virtual void upload(std::byte* to, const void* from_host, std::size_t bytes, Stream stream) = 0;
  virtual void download(void* to_host, const std::byte* from, std::size_t bytes, Stream stream) = 0;
  virtual void copy(std::byte* to, const std::byte* from, std::size_t bytes, Stream stream) = 0;
  virtual void fill(std::byte* to, int value, std::size_t bytes, Stream stream) = 0;

  virtual Stream stream() const = 0;       // the main one
  virtual Stream side_stream() const = 0;  // for copies beside it
  /// What is queued on `later` from now on waits for what is queued on `earlier` so far.
  virtual void order(Stream earlier, Stream later) = 0;
  /// Waits until `stream` is empty; throws Error where a kernel of it failed.
  virtual void synchronize(Stream stream) = 0;

  /// Between the two nothing runs: launches and copies of the main stream (and of streams ordered after it) are recorded.
  virtual void begin_capture() = 0;
  virtual std::unique_ptr<Graph> end_capture() = 0;

  /// From now on the timing is another, as `seed` decides, and nothing else is: threads of a block in another order where they
  /// are emulated; on hardware pauses of the host, and fills of spare memory beside the launches. 0: as usual.
  virtual void jitter(std::uint64_t seed) = 0;

  /// Seconds that `stream` takes from the first call to the second (events of the device).
  virtual void start_clock(Stream stream) = 0;
  virtual double stop_clock(Stream stream) = 0;
};

/// Whether every launch is waited for, so that an error names the kernel it comes from; off at first. Not for captures.
void wait_for_launches(bool wait);

/// A backend of this build, or why it is none: "not built: no nvcc was found when greta was configured".
struct BackendState {
  std::string name;
  bool built = false;
  std::string why;  // not usable here; empty where it is
  std::vector<DeviceInfo> devices;
};
/// cuda, hip and emulated, in this order.
std::vector<BackendState> backend_states();

/// Opens device `index` of backend `name`. Throws Error where the backend is unknown, not built, or has no such device, and
/// says which there are.
std::unique_ptr<Device> open_device(std::string_view name, int index);

}  // namespace greta::gpu
