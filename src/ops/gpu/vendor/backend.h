// What each vendor's build of vendor/device.cpp defines, for registry.cpp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/gpu/device.h"

namespace greta::gpu {

namespace cuda {
/// The devices; `why` is set where none can be used.
std::vector<DeviceInfo> devices(std::string& why);
std::unique_ptr<Device> open(int index);
}  // namespace cuda

namespace hip {
std::vector<DeviceInfo> devices(std::string& why);
std::unique_ptr<Device> open(int index);
}  // namespace hip

}  // namespace greta::gpu
