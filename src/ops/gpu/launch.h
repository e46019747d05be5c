// What the devices know of launches.
#pragma once

#include <string>

namespace greta::gpu {

/// What this thread queued last: "kernel 'qk' of 32x4x1 blocks of 128 threads, 0 bytes shared", or note_work()'s words; empty
/// where there was nothing.
std::string last_launch();
/// Work that is no launch. `what` outlives it.
void note_work(const char* what);
/// While this thread captures, no launch is waited for.
void set_capturing(bool is_capturing);

}  // namespace greta::gpu
