// A model's weights in the memory of a device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <vector>

#include "core/tensor.h"
#include "ops/gpu/device.h"

namespace greta::gpu {

/// Weights of the model are uploaded once, as they lie in the file, and stay; those that are not of the model (a fault altered
/// them) are uploaded for one call.
class WeightStore {
 public:
  /// `device` outlives this, and so does the memory of `weights`, the views of all tensors of the model (empty ones are passed
  /// over).
  WeightStore(Device& device, std::span<const WeightView> weights);
  ~WeightStore();
  WeightStore(const WeightStore&) = delete;
  WeightStore& operator=(const WeightStore&) = delete;

  /// Bytes on the device that all weights take.
  std::size_t bytes() const;
  /// Uploads what is not there yet, copies to page-locked memory beside copies to the device. `progress(done, all)` in bytes.
  /// Throws Error where the memory does not suffice: before anything is uploaded, with the bytes.
  void upload_all(const std::function<void(std::uint64_t done, std::uint64_t all)>& progress);

  /// Uploaded when first asked for. Row-major as stored; a `transposed` view is gathered to F32 on the host, row-major.
  WeightArg matrix(const WeightView& weight);
  /// The same with float elements (norms, biases): [n_cols]; null for an empty view.
  const float* vector(const WeightView& weight);
  /// Frees what was uploaded for one call. Nothing queued may still read it.
  void release_temporaries();

 private:
  struct Known {
    WeightView view;
    std::byte* on_device = nullptr;
  };
  std::byte* upload(const void* from, std::size_t bytes, std::string_view what);
  std::byte* upload_temporary(const void* from, std::size_t bytes, std::string_view what);
  Known* find(const WeightView& weight);

  Device& device_;
  std::map<const std::byte*, Known> known_;         // by place in the file
  std::map<const std::byte*, std::byte*> vectors_;  // the same, as floats
  std::vector<std::byte*> temporaries_;
};

}  // namespace greta::gpu
