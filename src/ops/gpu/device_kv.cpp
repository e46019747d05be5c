#include "ops/gpu/device_kv.h"

#include "core/error.h"

namespace greta::gpu {

std::size_t DeviceKv::Shape::bytes() const {
  auto total = static_cast<std::size_t>(row_bytes(dtype, width));
  for (const int factor : {2, n_layers, n_sequences, capacity})
    if (__builtin_mul_overflow(total, static_cast<std::size_t>(factor), &total))
      fail("KV cache: {} layers x {} sequences x {} slots x {} elements overflow; use a smaller context", n_layers, n_sequences,
           capacity, width);
  return total;
}

DeviceKv::DeviceKv(Device& device, const Shape& shape)
    : device_(device), shape_(shape), slot_stride_(row_bytes(shape.dtype, shape.width)) {
  const std::size_t bytes = shape.bytes();
  data_ = device.allocate(bytes, "KV cache");
  device.fill(data_, 0, bytes, device.stream());
}

DeviceKv::~DeviceKv() { device_.release(data_); }

KvArg DeviceKv::arg(KvPart part, int layer) const {
  const std::int64_t sequence = slot_stride_ * shape_.capacity;
  const std::int64_t plane = (std::int64_t{layer} * 2 + static_cast<std::int64_t>(part)) * shape_.n_sequences;
  return {data_ + plane * sequence, shape_.dtype, sequence, slot_stride_, static_cast<std::int32_t>(shape_.width)};
}

std::byte* DeviceKv::write_slot(KvPart part, int layer, RowId token) {
  if (layer < 0 || layer >= shape_.n_layers || token.seq < 0 || token.seq >= shape_.n_sequences || token.position < 0 ||
      token.position >= shape_.capacity)
    fail("KV cache: slot (layer {}, sequence {}, position {}) is outside {} layers x {} sequences x {} positions", layer,
         token.seq, token.position, shape_.n_layers, shape_.n_sequences, shape_.capacity);
  const KvArg layer_slots = arg(part, layer);
  return layer_slots.base + layer_slots.sequence_stride * token.seq + slot_stride_ * token.position;
}

}  // namespace greta::gpu
