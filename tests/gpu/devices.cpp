#include "tests/gpu/devices.h"

#include <map>

#include "ops/gpu/emulated_blocks.h"

namespace greta::gpu {

std::vector<TestDevice> emulated_test_devices() { return {{"emulated", 0, "emulated32"}, {"emulated", 1, "emulated64"}}; }

std::vector<TestDevice> hardware_test_devices() {
  std::vector<TestDevice> found;
  for (const BackendState& state : backend_states())
    for (const DeviceInfo& info : state.devices)
      if (info.backend != "emulated" && info.usable())
        found.push_back({info.backend, info.index, info.backend + std::to_string(info.index)});
  return found;
}

Device& shared_device(const TestDevice& which) {
  static std::map<std::string, std::unique_ptr<Device>> open;
  std::unique_ptr<Device>& device = open[which.name];
  if (device == nullptr) device = open_device(which.backend, which.index);
  // Blocks and threads in no order: where a kernel misses a barrier, the order of threads is the one most likely to hide it.
  if (which.backend == "emulated")
    emulation::set_schedule(emulation::Order::shuffled, static_cast<std::uint64_t>(which.index) + 1);
  return *device;
}

}  // namespace greta::gpu
