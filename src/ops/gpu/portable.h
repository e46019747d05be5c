// What a GPU kernel may use of its machine: one set of names for CUDA, HIP and the emulation on the CPU.
//
// A kernel file includes this header, opens `namespace greta::gpu::GRETA_GPU_TARGET`, and uses nothing of a vendor by name. It
// is compiled once for each target: by nvcc (cuda), by clang for HIP (hip), and twice by the host's compiler, with waves of 32
// and of 64 lanes (emulated32, emulated64). Products and sums are never contracted in any of them: a fused multiply-add is
// written as fma().
#pragma once

#include <cstddef>
#include <cstdint>

#if defined(__CUDACC__)
#define GRETA_GPU_TARGET cuda
#include <cuda_runtime.h>
#define FMT_USE_CONSTEXPR 1  // fmt 9 takes it from half of its functions under nvcc, which the other half then misses
#elif defined(__HIP__)
#define GRETA_GPU_TARGET hip
#include <hip/hip_runtime.h>
#elif defined(GRETA_GPU_EMULATED_WAVE)
#define GRETA_GPU_EMULATED 1
#if GRETA_GPU_EMULATED_WAVE == 64
#define GRETA_GPU_TARGET emulated64
#else
#define GRETA_GPU_TARGET emulated32
#endif
#else
#error "kernels are compiled by nvcc, by clang for HIP, or with GRETA_GPU_EMULATED_WAVE"
#endif

#if defined(GRETA_GPU_EMULATED)
#include "ops/gpu/emulation.h"
#else
#include "ops/gpu/hardware.h"
#endif

/// Before a loop whose arrays are to stay in registers; the emulation keeps them where it likes.
#if defined(GRETA_GPU_EMULATED)
#define GRETA_UNROLL
#else
#define GRETA_UNROLL _Pragma("unroll")
#endif
/// The same for so many rounds at a time, of a loop whose rounds are counted at run time.
#if defined(GRETA_GPU_EMULATED)
#define GRETA_UNROLL_BY(rounds)
#else
#define GRETA_PRAGMA(words) _Pragma(#words)
#define GRETA_UNROLL_BY(rounds) GRETA_PRAGMA(unroll rounds)
#endif

/// A kernel that is never launched with more threads a block, so that it may use more registers; where `blocks` is not 1, as
/// many as let so many blocks run on a multiprocessor (NVIDIA; elsewhere the compiler chooses).
#if defined(GRETA_GPU_EMULATED)
#define GRETA_KERNEL_OF(most_threads, blocks) GRETA_KERNEL
#elif defined(__CUDACC__)
#define GRETA_KERNEL_OF(most_threads, blocks) GRETA_KERNEL __launch_bounds__(most_threads, blocks)
#else
#define GRETA_KERNEL_OF(most_threads, blocks) GRETA_KERNEL __launch_bounds__(most_threads)
#endif
