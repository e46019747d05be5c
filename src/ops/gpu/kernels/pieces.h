// Sixteen bytes at a time: loads from device memory, and copies of them to shared memory that go on while others compute.
#pragma once

#include <cstring>

#include "ops/gpu/portable.h"

namespace greta::gpu::GRETA_GPU_TARGET {

struct alignas(16) Piece {
  std::uint32_t word[4];
};
inline constexpr int kPieceBytes = 16;

/// 16 aligned bytes that are read once: a load that leaves the caches to others.
GRETA_DEVICE Piece load_once(const std::byte* from) {
#if defined(__CUDACC__)
  Piece piece;
  asm volatile("ld.global.nc.L1::no_allocate.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(piece.word[0]), "=r"(piece.word[1]), "=r"(piece.word[2]), "=r"(piece.word[3])
               : "l"(from));
  return piece;
#else
  return *reinterpret_cast<const Piece*>(from);
#endif
}
/// 16 aligned bytes that others of the device read too.
GRETA_DEVICE Piece load_piece(const std::byte* from) { return *reinterpret_cast<const Piece*>(from); }

/// 16 aligned bytes of which those in [begin, end) count. At least one of them does: then hardware may read all, for no page or
/// allocation ends within them.
GRETA_DEVICE Piece load_within(const std::byte* from, [[maybe_unused]] const std::byte* begin,
                               [[maybe_unused]] const std::byte* end) {
#if defined(GRETA_GPU_EMULATED)
  Piece piece{};
  const std::byte* first = from < begin ? begin : from;
  const std::byte* last = from + kPieceBytes < end ? from + kPieceBytes : end;
  std::memcpy(reinterpret_cast<std::byte*>(piece.word) + (first - from), first, static_cast<std::size_t>(last - first));
  return piece;
#else
  return load_piece(from);
#endif
}

/// Whether copy_async() returns before its bytes are there. Where it is false there is none of the three functions below: a
/// kernel loads into registers, computes, and writes them to shared memory then.
#if defined(__CUDACC__)
inline constexpr bool kAsyncCopies = true;
#else
inline constexpr bool kAsyncCopies = false;
#endif

/// Starts a copy of 16 aligned bytes to shared memory; zeros, and nothing is read, where `valid` is false.
GRETA_DEVICE void copy_async([[maybe_unused]] std::byte* shared, [[maybe_unused]] const std::byte* from,
                             [[maybe_unused]] bool valid) {
#if defined(__CUDACC__)
  asm volatile(
      "cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(static_cast<std::uint32_t>(__cvta_generic_to_shared(shared))),
      "l"(from), "r"(valid ? 16 : 0)
      : "memory");
#endif
}
/// Ends a group of copies of this thread.
GRETA_DEVICE void commit_copies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}
/// Waits until at most kLater groups of this thread, the latest, are still on their way.
template <int kLater>
GRETA_DEVICE void wait_copies() {
#if defined(__CUDACC__)
  asm volatile("cp.async.wait_group %0;" ::"n"(kLater) : "memory");
#endif
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
