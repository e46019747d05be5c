// The backends of this build. GRETA_GPU_<BACKEND> (0 or 1) and _WHY come from targets/CMakeLists.txt.
#include <algorithm>

#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"
#include "ops/gpu/device.h"
#include "ops/gpu/emulated_device.h"
#include "ops/gpu/vendor/backend.h"

namespace greta::gpu {
namespace {

BackendState cuda_state() {
#if GRETA_GPU_CUDA
  BackendState state{.name = "cuda", .built = true, .why = "", .devices = {}};
  state.devices = cuda::devices(state.why);
  return state;
#else
  return {.name = "cuda", .built = false, .why = "not built: " GRETA_GPU_CUDA_WHY, .devices = {}};
#endif
}

BackendState hip_state() {
#if GRETA_GPU_HIP
  BackendState state{.name = "hip", .built = true, .why = "", .devices = {}};
  state.devices = hip::devices(state.why);
  return state;
#else
  return {.name = "hip", .built = false, .why = "not built: " GRETA_GPU_HIP_WHY, .devices = {}};
#endif
}

BackendState emulated_state() {
  return {.name = "emulated", .built = true, .why = "", .devices = emulated_devices(machine_memory())};
}

std::string list(const std::vector<DeviceInfo>& devices) {
  std::string text;
  for (const DeviceInfo& device : devices)
    text += fmt::format("{}{} ({}, {})", text.empty() ? "" : ", ", device.index, device.name, device.architecture);
  return text;
}

}  // namespace

std::vector<BackendState> backend_states() { return {cuda_state(), hip_state(), emulated_state()}; }

std::unique_ptr<Device> open_device(std::string_view name, int index) {
  const auto known = [](std::string_view other) { return other == "cuda" || other == "hip" || other == "emulated"; };
  if (!known(name)) {
    const std::vector<std::string_view> names = {"cuda", "hip", "emulated"};
    fail("GPU backend {} is not known{}", quote(name), suggestion(name, names));
  }
  const BackendState state = name == "cuda" ? cuda_state() : name == "hip" ? hip_state() : emulated_state();
  if (!state.built) fail("backend '{}' is not in this build: {}", name, std::string_view(state.why).substr(11));
  if (!state.why.empty()) fail("backend '{}' has no device: {}", name, state.why);
  const auto found =
      std::find_if(state.devices.begin(), state.devices.end(), [&](const auto& info) { return info.index == index; });
  if (found == state.devices.end()) fail("backend '{}' has no device {}; there are: {}", name, index, list(state.devices));
#if GRETA_GPU_CUDA
  if (name == "cuda") return cuda::open(index);
#endif
#if GRETA_GPU_HIP
  if (name == "hip") return hip::open(index);
#endif
  return open_emulated(index, machine_memory());
}

}  // namespace greta::gpu
