// Sixteen bytes at a time: loads from device memory, and copies of them to shared memory that go on while others compute.
#pragma once

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

/// 16 aligned bytes, of which those outside [begin, end) are not read and come as zeros.
GRETA_DEVICE Piece load_within(const std::byte* from, const std::byte* begin, const std::byte* end) {
  if (begin <= from && from + kPieceBytes <= end) return load_piece(from);
  Piece piece{};
  GRETA_UNROLL
  for (int i = 0; i < kPieceBytes; ++i) {
    const std::byte* at = from + i;
    if (begin <= at && at < end) piece.word[i / 4] |= static_cast<std::uint32_t>(*at) << (i % 4 * 8);
  }
  return piece;
}

/// Whether copy_async() returns before its bytes are there. Where it is false the functions below do nothing and are not
/// called: a kernel loads into registers, computes, and writes them to shared memory then.
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
