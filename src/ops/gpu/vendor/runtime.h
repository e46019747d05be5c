// The host's names of CUDA and of HIP, which are the same words behind another prefix; what differs is written out here.
// Compiled by the host's compiler, with GRETA_GPU_VENDOR_CUDA or GRETA_GPU_VENDOR_HIP. HIP: names of ROCm 5.2 to 6.
#pragma once

#include <string>

#if defined(GRETA_GPU_VENDOR_CUDA)
#include <cuda_runtime_api.h>
#define GRETA_GPU_VENDOR cuda
#define GPU(name) cuda##name
#elif defined(GRETA_GPU_VENDOR_HIP)
#include <hip/hip_runtime_api.h>
#define GRETA_GPU_VENDOR hip
#define GPU(name) hip##name
#else
#error "compiled with GRETA_GPU_VENDOR_CUDA or GRETA_GPU_VENDOR_HIP"
#endif

namespace greta::gpu::GRETA_GPU_VENDOR {

#if defined(GRETA_GPU_VENDOR_CUDA)
inline constexpr const char* kBackend = "cuda";
inline constexpr const char* kMaker = "NVIDIA";
inline constexpr int kBuiltWave = 32;
using Properties = cudaDeviceProp;

inline GPU(Error_t) allocate_locked(void** memory, std::size_t bytes) { return cudaMallocHost(memory, bytes); }
inline GPU(Error_t) release_locked(void* memory) { return cudaFreeHost(memory); }
inline GPU(Error_t) instantiate(cudaGraphExec_t* made, cudaGraph_t graph) { return cudaGraphInstantiate(made, graph, 0); }
/// 13000 is 13.0.
inline std::string version_text(int version) {
  return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10);
}
inline std::string architecture_of(const Properties& properties) {
  return "sm_" + std::to_string(properties.major) + std::to_string(properties.minor);
}
/// "90a" is for that one alone; "90" for it and, by its PTX, for all later ones.
inline bool runs_on(const std::string& built, const Properties& properties) {
  const int device = properties.major * 10 + properties.minor;
  return built.ends_with('a') || built.ends_with('f') ? std::stoi(built) == device : std::stoi(built) <= device;
}
#else
inline constexpr const char* kBackend = "hip";
inline constexpr const char* kMaker = "AMD";
inline constexpr int kBuiltWave = 64;
using Properties = hipDeviceProp_t;

inline GPU(Error_t) allocate_locked(void** memory, std::size_t bytes) { return hipHostMalloc(memory, bytes, 0); }
inline GPU(Error_t) release_locked(void* memory) { return hipHostFree(memory); }
inline GPU(Error_t) instantiate(hipGraphExec_t* made, hipGraph_t graph) {
  return hipGraphInstantiate(made, graph, nullptr, nullptr, 0);
}
/// 60342134 is 6.3.42134.
inline std::string version_text(int version) {
  return std::to_string(version / 10000000) + "." + std::to_string(version / 100000 % 100) + "." +
         std::to_string(version % 100000);
}
/// "gfx942" of "gfx942:sramecc+:xnack-".
inline std::string architecture_of(const Properties& properties) {
  const std::string name = properties.gcnArchName;
  return name.substr(0, name.find(':'));
}
inline bool runs_on(const std::string& built, const Properties& properties) { return built == architecture_of(properties); }
#endif

}  // namespace greta::gpu::GRETA_GPU_VENDOR
