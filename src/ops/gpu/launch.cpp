// What all backends say about launches.
#include "ops/gpu/launch.h"

#include <string>

#include "core/error.h"
#include "ops/gpu/device.h"

namespace greta::gpu {
namespace {

// Kept as it came: it is described only where something fails.
struct Last {
  Launch at{};
  const char* work = nullptr;
};
thread_local Last last;
thread_local bool capturing = false;
bool waiting = false;

std::string describe(const Launch& at) {
  return fmt::format("kernel '{}' of {}x{}x{} blocks of {} threads, {} bytes shared", at.name, at.x, at.y, at.z, at.threads,
                     at.shared);
}

}  // namespace

void launch_failed(const Launch& at, const char* words) { fail("{}: {}", describe(at), words); }

bool note_launch(const Launch& at) {
  last = {at, nullptr};
  return waiting && !capturing;
}

void note_work(const char* what) { last = {{}, what}; }
std::string last_launch() {
  if (last.work != nullptr) return last.work;
  return last.at.name == nullptr ? "" : describe(last.at);
}
void set_capturing(bool is_capturing) { capturing = is_capturing; }
void wait_for_launches(bool wait) { waiting = wait; }

}  // namespace greta::gpu
