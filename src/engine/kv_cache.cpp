#include "engine/kv_cache.h"

#include <functional>

#include "core/error.h"

namespace greta {

std::size_t KvCache::bytes(DType dtype, int n_layers, int n_sequences, int capacity, std::int64_t width) {
  std::size_t total = static_cast<std::size_t>(row_bytes(dtype, width));
  for (const int factor : {2, n_layers, n_sequences, capacity})
    if (__builtin_mul_overflow(total, static_cast<std::size_t>(factor), &total))
      fail("KV cache: {} layers x {} sequences x {} slots x {} elements overflow; use a smaller context", n_layers, n_sequences,
           capacity, width);
  return total;
}

KvCache::KvCache(DType dtype, int n_layers, int n_sequences, int capacity, std::int64_t width)
    : dtype_(dtype),
      n_layers_(n_layers),
      n_sequences_(n_sequences),
      capacity_(capacity),
      width_(width),
      slot_bytes_(static_cast<std::size_t>(row_bytes(dtype, width))),
      data_(bytes(dtype, n_layers, n_sequences, capacity, width)) {}

std::optional<KvPlace> KvCache::place(const std::byte* address) const {
  const std::less<const std::byte*> before;  // an order of all addresses, also of other objects'
  if (before(address, data_.data()) || !before(address, data_.data() + data_.size())) return std::nullopt;
  const auto offset = static_cast<std::size_t>(address - data_.data());
  if (offset % slot_bytes_ != 0) return std::nullopt;
  const std::size_t index = offset / slot_bytes_, capacity = static_cast<std::size_t>(capacity_);
  const std::size_t plane = index / capacity, sequences = static_cast<std::size_t>(n_sequences_);
  return KvPlace{static_cast<KvPart>(plane / sequences % 2), static_cast<int>(plane / sequences / 2),
                 RowId{static_cast<std::int32_t>(plane % sequences), static_cast<std::int32_t>(index % capacity)}};
}

std::byte* KvCache::slot(KvPart part, int layer, RowId token) {
  if (layer < 0 || layer >= n_layers_ || token.seq < 0 || token.seq >= n_sequences_ || token.position < 0 ||
      token.position >= capacity_)
    fail("KV cache: slot (layer {}, sequence {}, position {}) is outside {} layers x {} sequences x {} positions", layer,
         token.seq, token.position, n_layers_, n_sequences_, capacity_);
  const auto plane =
      (static_cast<std::size_t>(layer) * 2 + static_cast<std::size_t>(part)) * static_cast<std::size_t>(n_sequences_) +
      static_cast<std::size_t>(token.seq);
  return data_.data() + (plane * static_cast<std::size_t>(capacity_) + static_cast<std::size_t>(token.position)) * slot_bytes_;
}

}  // namespace greta
