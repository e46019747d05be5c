// The names of portable.h on CUDA and HIP. Included by it.
#pragma once

#include <string>

#include "core/error.h"
#include "ops/gpu/kernels.h"

#define GRETA_KERNEL __global__ void
#define GRETA_DEVICE __device__ __forceinline__
#define GRETA_HOST_DEVICE __host__ __device__ __forceinline__

namespace greta::gpu::GRETA_GPU_TARGET {

#if defined(__CUDACC__)
inline constexpr int kWave = 32;
#else
inline constexpr int kWave = 64;  // CDNA; builds for other wave sizes are refused by the build
#endif

GRETA_DEVICE int thread_id() { return static_cast<int>(threadIdx.x); }
GRETA_DEVICE int block_threads() { return static_cast<int>(blockDim.x); }
GRETA_DEVICE int block_x() { return static_cast<int>(blockIdx.x); }
GRETA_DEVICE int block_y() { return static_cast<int>(blockIdx.y); }
GRETA_DEVICE int block_z() { return static_cast<int>(blockIdx.z); }
GRETA_DEVICE int grid_x() { return static_cast<int>(gridDim.x); }
GRETA_DEVICE int grid_y() { return static_cast<int>(gridDim.y); }
GRETA_DEVICE int lane_id() { return thread_id() % kWave; }
GRETA_DEVICE int wave_id() { return thread_id() / kWave; }

/// All threads of the block come here before any goes on; what they wrote to shared memory is then seen by all.
GRETA_DEVICE void block_barrier() { __syncthreads(); }
/// The same for the lanes of a wave.
GRETA_DEVICE void wave_barrier() {
#if defined(__CUDACC__)
  __syncwarp();
#else
  __builtin_amdgcn_fence(__ATOMIC_ACQ_REL, "wavefront");
  __builtin_amdgcn_wave_barrier();
#endif
}

/// Value of lane `lane_id() ^ mask` of the wave; every lane calls it. T: 32-bit or 64-bit numbers.
template <class T>
GRETA_DEVICE T shuffle_xor(T value, int mask) {
#if defined(__CUDACC__)
  return __shfl_xor_sync(0xffffffffu, value, mask);
#else
  return __shfl_xor(value, mask, kWave);
#endif
}
/// Value of lane `lane` of the wave.
template <class T>
GRETA_DEVICE T shuffle(T value, int lane) {
#if defined(__CUDACC__)
  return __shfl_sync(0xffffffffu, value, lane);
#else
  return __shfl(value, lane, kWave);
#endif
}

/// The block's shared memory: as many bytes as the launch asked for, 16-byte aligned. There is no other shared memory.
GRETA_DEVICE std::byte* shared_memory() {
  extern __shared__ uint4 greta_shared[];
  return reinterpret_cast<std::byte*>(greta_shared);
}

GRETA_DEVICE void atomic_add(std::uint64_t* to, std::uint64_t value) {
  atomicAdd(reinterpret_cast<unsigned long long*>(to), static_cast<unsigned long long>(value));
}
GRETA_DEVICE std::int32_t atomic_add(std::int32_t* to, std::int32_t value) { return atomicAdd(to, value); }

/// a * b + c, rounded once.
GRETA_DEVICE float fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
GRETA_DEVICE double fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
/// Correctly rounded, as `/` is in every target's build.
GRETA_DEVICE float square_root(float x) {
#if defined(__CUDACC__)
  return __fsqrt_rn(x);
#else
  return __builtin_sqrtf(x);
#endif
}
GRETA_DEVICE std::uint32_t bits_of(float x) { return __builtin_bit_cast(std::uint32_t, x); }
GRETA_DEVICE float float_of(std::uint32_t bits) { return __builtin_bit_cast(float, bits); }

#if defined(__CUDACC__)
using NativeStream = cudaStream_t;
#else
using NativeStream = hipStream_t;
#endif
inline NativeStream native(Stream stream) { return static_cast<NativeStream>(stream); }

/// Starts `kernel` on grid x threads with `shared` bytes of shared memory. Throws Error with the kernel's name, shape and the
/// driver's words where the launch is refused.
template <class... Parameters, class... Arguments>
void launch(const Launch& at, void (*kernel)(Parameters...), Arguments&&... arguments) {
  const dim3 grid(static_cast<unsigned>(at.x), static_cast<unsigned>(at.y), static_cast<unsigned>(at.z));
#if defined(__CUDACC__)
  if (at.shared > 48 * 1024)
    cudaFuncSetAttribute(reinterpret_cast<const void*>(kernel), cudaFuncAttributeMaxDynamicSharedMemorySize,
                         static_cast<int>(at.shared));
  kernel<<<grid, static_cast<unsigned>(at.threads), at.shared, native(at.stream)>>>(static_cast<Parameters>(arguments)...);
  cudaError_t status = cudaGetLastError();
  if (note_launch(at) && status == cudaSuccess) status = cudaStreamSynchronize(native(at.stream));
  const char* words = status == cudaSuccess ? nullptr : cudaGetErrorString(status);
#else
  kernel<<<grid, static_cast<unsigned>(at.threads), at.shared, native(at.stream)>>>(static_cast<Parameters>(arguments)...);
  hipError_t status = hipGetLastError();
  if (note_launch(at) && status == hipSuccess) status = hipStreamSynchronize(native(at.stream));
  const char* words = status == hipSuccess ? nullptr : hipGetErrorString(status);
#endif
  if (words != nullptr) launch_failed(at, words);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
