// How ops reach the KV cache: by (layer, sequence, position), never by address arithmetic of their own.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"
#include "core/site.h"

namespace greta {

enum class KvPart : std::uint8_t { k, v };

/// The cache as one forward call sees it. Decorators (recording, faults) stand between ops and the cache.
class KvView {
 public:
  virtual ~KvView() = default;
  virtual DType dtype() const = 0;
  /// Elements of one slot: n_kv_heads * head_dim.
  virtual std::int64_t width() const = 0;
  /// The slot in which K or V of (layer, sequence, position) is to be written.
  virtual std::byte* write_slot(KvPart part, int layer, RowId token) = 0;
  /// The slot in which attention finds K or V of (layer, sequence, position).
  virtual const std::byte* read_slot(KvPart part, int layer, RowId token) = 0;
};

}  // namespace greta
