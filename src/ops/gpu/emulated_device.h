// GPUs emulated on the CPU: device 0 has waves of 32 lanes, device 1 of 64. They hold the kernels to the rules of
// emulated_blocks.h, and copies to the bounds of allocations.
#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "ops/gpu/device.h"

namespace greta::gpu {

/// `memory`: bytes that each says it has.
std::vector<DeviceInfo> emulated_devices(std::size_t memory);
/// The machine's memory.
std::size_t machine_memory();
/// Throws Error where there is no device `index`.
std::unique_ptr<Device> open_emulated(int index, std::size_t memory);

}  // namespace greta::gpu
