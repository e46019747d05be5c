// The KV cache: one slot a (layer, K or V, sequence, position).
#pragma once

#include <cstddef>
#include <optional>
#include <vector>

#include "core/dtype.h"
#include "ops/kv_view.h"

namespace greta {

/// What a slot of the cache is for.
struct KvPlace {
  KvPart part = KvPart::k;
  int layer = 0;
  RowId token;
  friend bool operator==(const KvPlace&, const KvPlace&) = default;
};

/// Zero-filled at construction; slots are absolute positions. Copyable: a copy is a snapshot.
class KvCache final : public KvView {
 public:
  /// `capacity` slots for each of `n_sequences`; `width` = n_kv_heads * head_dim elements a slot.
  KvCache(DType dtype, int n_layers, int n_sequences, int capacity, std::int64_t width);

  DType dtype() const override { return dtype_; }
  std::int64_t width() const override { return width_; }
  int capacity() const { return capacity_; }
  /// Bytes that a cache of this shape takes; throws Error where it overflows.
  static std::size_t bytes(DType dtype, int n_layers, int n_sequences, int capacity, std::int64_t width);

  std::byte* write_slot(KvPart part, int layer, RowId token) override { return slot(part, layer, token); }
  const std::byte* read_slot(KvPart part, int layer, RowId token) override { return slot(part, layer, token); }

  /// The slot that begins at `address`; nullopt: none of this cache does.
  std::optional<KvPlace> place(const std::byte* address) const;

 private:
  std::byte* slot(KvPart part, int layer, RowId token);

  DType dtype_;
  int n_layers_;
  int n_sequences_;
  int capacity_;
  std::int64_t width_;
  std::size_t slot_bytes_;
  std::vector<std::byte> data_;  // [n_layers, 2, n_sequences, capacity, width]
};

}  // namespace greta
