// Runs the blocks of a kernel on the CPU: one block after the other, the threads of a block as fibers of the calling thread.
//
// What hardware leaves undefined is an error here, or shows: a barrier that some thread never reaches, a shuffle that not every
// lane of a wave calls, shared memory read before it is written (it holds 0xff bytes, NaN as numbers, when a block begins) or
// past its end (a buffer of exactly the launch's bytes, for AddressSanitizer), and a result that depends on the order of
// threads (set_schedule). Lanes of a wave do not run in lockstep.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <source_location>

#include "ops/gpu/kernels.h"

namespace greta::gpu::emulation {

/// Lanes of the widest wave.
inline constexpr int kMostLanes = 64;

/// Where the running thread is: what thread_id() and its like read.
struct Here {
  int thread = 0;
  int threads = 0;
  int block[3] = {};
  int grid[3] = {};
  std::byte* shared = nullptr;
};
inline constinit thread_local Here here{};

using Where = std::source_location;

/// Returns when every thread of the block has called it, all from the same place. Throws Error otherwise.
void wait_for_block(const Where& where);

/// What a wave call of a lane offers: 16 bytes for each lane.
struct alignas(16) Offer {
  std::byte bytes[16];
};
/// Offers `bytes` of `value` and returns when every lane of the wave has called it, all from the same place: the offers of all
/// lanes, good until the lane's next wave call.
const Offer* exchange(const void* value, std::size_t bytes, const Where& where);
/// The same, but the lane that comes last calls act(context, lanes) before any lane goes on; lanes[i]: lane i's `mine`.
void together(void* mine, void (*act)(void* context, void* const* lanes), void* context, const Where& where);

/// The order in which the blocks of a launch, and the threads of a block, run wherever the kernel leaves it open.
enum class Order : std::uint8_t { forward, reverse, shuffled };
/// For all launches from now on. A kernel without races gives the same bits under every schedule.
void set_schedule(Order order, std::uint64_t seed = 0);

/// Runs body(closure) once for every thread. Throws Error with the kernel's name, block and threads where the kernel breaks a
/// rule, and as launch_failed() where hardware with such waves would refuse the launch.
void run_blocks(const Launch& at, int wave, void (*body)(const void* closure), const void* closure);

/// A stream of an emulated device. Work runs when it is queued, or is kept for a graph.
class Queue {
 public:
  virtual ~Queue() = default;
  virtual bool recording() const = 0;
  virtual void record(std::function<void()> work) = 0;
};

}  // namespace greta::gpu::emulation
