// Where an arm computes: the ops of its backend, and the devices that the arms of a process share.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "engine/plan.h"
#include "model/model.h"
#include "ops/cpu/thread_pool.h"
#include "ops/gpu/bridge_ops.h"
#include "ops/ops.h"

namespace greta::cli {

struct ArmSpec;

/// The name of a backend as recorded: `auto` becomes the first GPU backend that works here, else cpu. Throws Error where the
/// backend is not known, not of this build, or has no device `device`, with the reason.
std::string resolve_backend(std::string_view asked, int device);
/// What routes a backend has.
Target target_of(std::string_view backend);

/// The device with the model's weights, opened and filled when first asked for, and kept until the process ends. Throws Error
/// where it does not open or its memory does not suffice.
gpu::DeviceModel& device_model(const ArmSpec& spec, const Model& model);

/// The ops of the arm's backend and plan. `pool` and `model` outlive them.
std::unique_ptr<Ops> make_arm_ops(const ArmSpec& spec, const Model& model, ThreadPool& pool);

/// What a capture says of where it was made.
struct Place {
  std::string host;    // for a GPU with backend and number: "node, cuda 0"
  std::string device;  // "NVIDIA H200 (sm_90)"; empty on a CPU
};
Place place_of(const ArmSpec& spec);

}  // namespace greta::cli
