// The names of portable.h on the CPU, with waves of GRETA_GPU_EMULATED_WAVE lanes. Included by it; emulated_blocks.h runs them.
#pragma once

#include <array>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstring>
#include <functional>
#include <span>
#include <tuple>
#include <type_traits>
#include <utility>

#include "core/error.h"
#include "ops/gpu/emulated_blocks.h"
#include "ops/gpu/kernels.h"

#define GRETA_KERNEL void
#define GRETA_DEVICE inline
#define GRETA_HOST_DEVICE inline

namespace greta::gpu::GRETA_GPU_TARGET {

inline constexpr int kWave = GRETA_GPU_EMULATED_WAVE;

inline int thread_id() { return emulation::here.thread; }
inline int block_threads() { return emulation::here.threads; }
inline int block_x() { return emulation::here.block[0]; }
inline int block_y() { return emulation::here.block[1]; }
inline int block_z() { return emulation::here.block[2]; }
inline int grid_x() { return emulation::here.grid[0]; }
inline int grid_y() { return emulation::here.grid[1]; }
inline int lane_id() { return thread_id() % kWave; }
inline int wave_id() { return thread_id() / kWave; }

/// `where` is for messages, and tells calls of one place from those of another.
inline void block_barrier(const emulation::Where& where = emulation::Where::current()) { emulation::wait_for_block(where); }
inline void wave_barrier(const emulation::Where& where = emulation::Where::current()) {
  emulation::exchange(nullptr, 0, where);
}

/// Value of lane `lane` of the wave; every lane calls it.
template <class T>
T shuffle(T value, int lane, const emulation::Where& where = emulation::Where::current()) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= sizeof(emulation::Offer));
  const emulation::Offer* offers = emulation::exchange(&value, sizeof(T), where);
  T found;
  std::memcpy(&found, offers[lane % kWave].bytes, sizeof(T));
  return found;
}
/// Value of lane `lane_id() ^ mask` of the wave; every lane calls it.
template <class T>
T shuffle_xor(T value, int mask, const emulation::Where& where = emulation::Where::current()) {
  return GRETA_GPU_TARGET::shuffle(value, lane_id() ^ mask, where);  // named, or `where` would bring std::shuffle in
}

/// Calls act(lanes) once, when every lane of the wave has come; lanes[i]: lane i's `mine`. The way to emulate an instruction
/// that a whole wave computes together. Emulation only.
template <class T, class Act>
void wave_together(T& mine, Act act, const emulation::Where& where = emulation::Where::current()) {
  const auto call = [](void* context, void* const* offers) {
    std::array<T*, kWave> lanes;
    for (int i = 0; i < kWave; ++i) lanes[static_cast<std::size_t>(i)] = static_cast<T*>(offers[i]);
    (*static_cast<Act*>(context))(std::span<T* const>(lanes));
  };
  emulation::together(&mine, call, &act, where);
}

/// The block's shared memory: as many bytes as the launch asked for, 16-byte aligned.
inline std::byte* shared_memory() { return emulation::here.shared; }

inline void atomic_add(std::uint64_t* to, std::uint64_t value) {
  std::atomic_ref(*to).fetch_add(value, std::memory_order_relaxed);
}
inline std::int32_t atomic_add(std::int32_t* to, std::int32_t value) {
  return std::atomic_ref(*to).fetch_add(value, std::memory_order_relaxed);
}

/// a * b + c, rounded once.
inline float fma(float a, float b, float c) { return std::fma(a, b, c); }
inline double fma(double a, double b, double c) { return std::fma(a, b, c); }
inline float square_root(float x) { return std::sqrt(x); }
inline std::uint32_t bits_of(float x) { return std::bit_cast<std::uint32_t>(x); }
inline float float_of(std::uint32_t bits) { return std::bit_cast<float>(bits); }

/// Runs `kernel` on grid x threads now, or keeps it for the graph that its stream records.
template <class... Parameters, class... Arguments>
void launch(const Launch& at, void (*kernel)(Parameters...), Arguments&&... arguments) {
  auto run = [at, kernel, values = std::tuple<std::decay_t<Parameters>...>(static_cast<Parameters>(arguments)...)] {
    const auto thread = [&] { std::apply(kernel, values); };
    emulation::run_blocks(
        at, kWave, [](const void* closure) { (*static_cast<const decltype(thread)*>(closure))(); }, &thread);
  };
  note_launch(at);
  auto* queue = static_cast<emulation::Queue*>(at.stream);
  if (queue != nullptr && queue->recording())
    queue->record(std::move(run));
  else
    run();
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
