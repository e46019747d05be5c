// Matrix instructions of four waves together, on both operands in shared memory: NVIDIA's wgmma (PTX ISA, "Asynchronous
// Warpgroup Level Matrix Multiply-Accumulate"), for GPUs of compute capability 9.0 with the suffix a.
//
// They sum the same sets of 16 terms as tile.h and in the same order, and that gives the same bits: the hardware adds the terms
// of an instruction without regard to their order. A test on hardware compares the two (MatmulInvariant.*TheSameBits).
#pragma once

#include "ops/gpu/kernels/tile.h"

namespace greta::gpu::GRETA_GPU_TARGET {

#if defined(GRETA_GPU_WIDE_TILES)  // all architectures of the build have them
inline constexpr bool kWideTiles = true;
#else
inline constexpr bool kWideTiles = false;
#endif

inline constexpr int kWideRows = 64;     // of A, weights
inline constexpr int kWideTokens = 128;  // of B
inline constexpr int kWideDepth = 64;    // inputs of a slab in shared memory: rows of 128 bytes
inline constexpr int kWideRowBytes = 2 * kWideDepth;
inline constexpr int kWideThreads = 128;
inline constexpr int kWideAlignment = 1024;  // of a slab

/// A lane's results: those of kWideTokens / 8 tiles of tile.h, rows 16 w .. of wave w of the four.
struct WideResults {
  float at[kWideTokens / 2] = {};
};

/// Byte of piece `piece` of row `row` of a slab: the 128-byte swizzle that the hardware expects.
GRETA_DEVICE int wide_at(int row, int piece) { return row * kWideRowBytes + (piece ^ (row & 7)) * kPieceBytes; }

#if defined(GRETA_GPU_WIDE_TILES) && defined(__CUDA_ARCH__)

/// The block's shared memory from the first multiple of kWideAlignment on.
GRETA_DEVICE std::byte* aligned_shared() {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared_memory()));
  return shared_memory() + (kWideAlignment - address % kWideAlignment) % kWideAlignment;
}
/// What this thread copied is seen by multiply_wide() of others after the next barrier.
GRETA_DEVICE void publish_to_wide() { asm volatile("fence.proxy.async;" ::: "memory"); }

/// Descriptor of the rows at `slab`: K-major, 128-byte swizzle, groups of 8 rows 1024 bytes apart (PTX ISA, "Matrix Descriptor
/// Format").
GRETA_DEVICE std::uint64_t wide_descriptor(const std::byte* slab) {
  const auto address = static_cast<std::uint32_t>(__cvta_generic_to_shared(slab));
  return static_cast<std::uint64_t>((address & 0x3ffff) >> 4) | std::uint64_t{1} << 16 | std::uint64_t{1024 >> 4} << 32 |
         std::uint64_t{1} << 62;
}

// clang-format off
#define GRETA_WIDE_8(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
                           "+f"(d[i + 6]), "+f"(d[i + 7])
#define GRETA_WIDE_64(d) GRETA_WIDE_8(d, 0), GRETA_WIDE_8(d, 8), GRETA_WIDE_8(d, 16), GRETA_WIDE_8(d, 24), \
                         GRETA_WIDE_8(d, 32), GRETA_WIDE_8(d, 40), GRETA_WIDE_8(d, 48), GRETA_WIDE_8(d, 56)
#define GRETA_WGMMA(type)                                                                                             \
  "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type                                                        \
  " {%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,"  \
  "%30,%31,%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,"  \
  "%58,%59,%60,%61,%62,%63}, %64, %65, 1, 1, 1, 0, 0;"
// clang-format on

/// Keeps the compiler from moving what it does with `sum` past this point.
GRETA_DEVICE void hold(WideResults& sum) { asm volatile("" : GRETA_WIDE_64(sum.at)::"memory"); }

/// Begins sum += a * b over a slab: 64 rows at `a`, 128 at `b`. Until wait_wide() neither may change, and nobody looks at
/// `sum`.
template <DType kType>
GRETA_DEVICE void multiply_wide(WideResults& sum, const std::byte* a, const std::byte* b) {
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
  const std::uint64_t first_a = wide_descriptor(a), first_b = wide_descriptor(b);
  GRETA_UNROLL
  for (unsigned step = 0; step < kWideDepth / 16; ++step) {
    const std::uint64_t at_a = first_a + 2 * step, at_b = first_b + 2 * step;  // 32 bytes on
    if constexpr (kType == DType::f16)
      asm volatile(GRETA_WGMMA("f16") : GRETA_WIDE_64(sum.at) : "l"(at_a), "l"(at_b));
    else
      asm volatile(GRETA_WGMMA("bf16") : GRETA_WIDE_64(sum.at) : "l"(at_a), "l"(at_b));
  }
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
/// Waits until at most kLater of the products begun by these four waves, the latest, go on.
template <int kLater>
GRETA_DEVICE void wait_wide(WideResults& sum) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kLater) : "memory");
  if constexpr (kLater == 0) hold(sum);
}

#undef GRETA_WGMMA
#undef GRETA_WIDE_64
#undef GRETA_WIDE_8

#else

// Never called: what the host and other targets see.
GRETA_DEVICE std::byte* aligned_shared() { return nullptr; }
GRETA_DEVICE void publish_to_wide() {}
GRETA_DEVICE void hold(WideResults&) {}
template <DType kType>
GRETA_DEVICE void multiply_wide(WideResults&, const std::byte*, const std::byte*) {}
template <int kLater>
GRETA_DEVICE void wait_wide(WideResults&) {}

#endif

}  // namespace greta::gpu::GRETA_GPU_TARGET
