// A KV cache in the memory of a device.
#pragma once

#include <cstddef>
#include <cstdint>

#include "ops/gpu/device.h"
#include "ops/kv_view.h"

namespace greta::gpu {

/// Slots are device memory: what write_slot() and read_slot() give is for kernels. Filled with zeros, as KvCache is.
class DeviceKv final : public KvView {
 public:
  struct Shape {
    DType dtype = DType::f16;
    int n_layers = 0, n_sequences = 1, capacity = 0;
    std::int64_t width = 0;  // n_kv_heads * head_dim
    std::size_t bytes() const;
  };
  /// Throws Error where the memory does not suffice.
  DeviceKv(Device& device, const Shape& shape);
  ~DeviceKv() override;
  DeviceKv(const DeviceKv&) = delete;
  DeviceKv& operator=(const DeviceKv&) = delete;

  DType dtype() const override { return shape_.dtype; }
  std::int64_t width() const override { return shape_.width; }
  int capacity() const { return shape_.capacity; }
  std::byte* write_slot(KvPart part, int layer, RowId token) override;
  const std::byte* read_slot(KvPart part, int layer, RowId token) override { return write_slot(part, layer, token); }
  /// All slots of a layer's K or V.
  KvArg arg(KvPart part, int layer) const;

 private:
  Device& device_;
  Shape shape_;
  std::int64_t slot_stride_;  // bytes
  std::byte* data_;           // [n_layers, 2, n_sequences, capacity, width]
};

}  // namespace greta::gpu
