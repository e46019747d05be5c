#include "cli/arm_ops.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <tuple>
#include <vector>

#include "cli/arm.h"
#include "cli/progress_bar.h"
#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"
#include "ops/gpu/device.h"

namespace greta::cli {
namespace {

/// Device memory that one op's operands may take beside the weights.
constexpr std::size_t kOperands = std::size_t{256} << 20;

std::string host_name() {
  char buffer[256] = {};
  return gethostname(buffer, sizeof buffer - 1) == 0 ? buffer : "unknown";
}

const gpu::BackendState* find_backend(const std::vector<gpu::BackendState>& states, std::string_view name) {
  const auto found = std::find_if(states.begin(), states.end(), [&](const auto& state) { return state.name == name; });
  return found == states.end() ? nullptr : &*found;
}

gpu::DeviceModel open_model(const ArmSpec& spec, const Model& model) {
  gpu::DeviceModel opened;
  opened.device = gpu::open_device(spec.backend, spec.device);
  opened.weights = std::make_unique<gpu::WeightStore>(*opened.device, all_weights(model.weights));
  const std::size_t needed = opened.weights->bytes() + kOperands, free = opened.device->free_memory();
  if (needed > free)
    fail(
        "{} {}: {} takes {} MiB of device memory ({} MiB of weights), and {} MiB are free; use a smaller model or another "
        "device",
        spec.backend, spec.device, model.file->path().string(), needed >> 20, opened.weights->bytes() >> 20, free >> 20);
  ProgressBar bar;
  opened.weights->upload_all([&](std::uint64_t done, std::uint64_t all) { bar(done, all); });
  return opened;
}

}  // namespace

std::string resolve_backend(std::string_view asked, int device) {
  if (asked.empty() || asked == "cpu") {
    if (device != 0) fail("device {}: the cpu backend has device 0 only", device);
    return "cpu";
  }
  const std::vector<gpu::BackendState> states = gpu::backend_states();
  if (asked == "auto") {
    std::string why;
    for (const auto& state : states) {
      if (state.name == "emulated" || device >= static_cast<int>(state.devices.size())) continue;
      const gpu::DeviceInfo& found = state.devices[static_cast<std::size_t>(device)];
      if (found.usable()) return state.name;
      why = fmt::format("backend {}: {}", state.name, found.unusable);
    }
    if (device != 0 && !why.empty()) fail("{}; the cpu backend has device 0 only", why);
    if (device != 0) fail("device {}: no GPU backend has such a device here, and the cpu backend has device 0 only", device);
    return "cpu";
  }
  const gpu::BackendState* state = find_backend(states, asked);
  if (state == nullptr) {
    std::vector<std::string_view> known{"cpu", "auto"};
    for (const auto& one : states) known.push_back(one.name);
    fail("backend {} is not known{}", quote(asked), suggestion(asked, known));
  }
  if (!state->why.empty()) fail("backend {}: {} (greta doctor says more); use cpu", asked, state->why);
  if (device >= static_cast<int>(state->devices.size()))
    fail("device {}: backend {} has {} device(s) here, numbered from 0", device, asked, state->devices.size());
  if (const std::string& why = state->devices[static_cast<std::size_t>(device)].unusable; !why.empty())
    fail("backend {}: {}", asked, why);
  return std::string(asked);
}

Target target_of(std::string_view backend) { return backend == "cpu" ? Target::cpu : Target::gpu; }

gpu::DeviceModel& device_model(const ArmSpec& spec, const Model& model) {
  struct Opened {
    std::shared_ptr<const Gguf> file;  // the weights' place in memory is theirs as long as this lives
    gpu::DeviceModel model;
  };
  static std::map<std::tuple<std::string, int, const Gguf*>, Opened> all;
  const auto key = std::tuple(spec.backend, spec.device, model.file.get());
  const auto found = all.find(key);
  if (found != all.end()) return found->second.model;
  return all.emplace(key, Opened{model.file, open_model(spec, model)}).first->second.model;
}

std::unique_ptr<Ops> make_arm_ops(const ArmSpec& spec, const Model& model, ThreadPool& pool) {
  const RouteTable routes = spec.plan.routes(1);
  if (spec.plan.target == Target::cpu) return make_cpu_ops({.routes = routes, .isa = spec.isa, .pool = pool});
  return gpu::make_bridge_ops(device_model(spec, model), routes);
}

Place place_of(const ArmSpec& spec) {
  if (spec.plan.target == Target::cpu) return {host_name(), ""};
  for (const gpu::BackendState& state : gpu::backend_states()) {
    if (state.name != spec.backend || spec.device >= static_cast<int>(state.devices.size())) continue;
    const gpu::DeviceInfo& device = state.devices[static_cast<std::size_t>(spec.device)];
    return {fmt::format("{}, {} {}", host_name(), spec.backend, spec.device),
            fmt::format("{} ({})", device.name, device.architecture)};
  }
  return {host_name(), ""};
}

}  // namespace greta::cli
