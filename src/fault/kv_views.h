// Decorators of the KV cache that faults put between an op and its slots.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "ops/kv_view.h"

namespace greta {

/// Where a slot is taken for; the layer and the token of another one.
struct SlotPlace {
  int layer = 0;
  RowId token;
};

/// Reads or writes other slots than those asked for; nowhere where the redirection gives nothing.
class RedirectedKv final : public KvView {
 public:
  using Redirect = std::function<std::optional<SlotPlace>(SlotPlace)>;
  /// An empty function leaves its side as it is.
  RedirectedKv(KvView& inner, Redirect writes, Redirect reads);
  DType dtype() const override { return inner_.dtype(); }
  std::int64_t width() const override { return inner_.width(); }
  std::byte* write_slot(KvPart part, int layer, RowId token) override;
  const std::byte* read_slot(KvPart part, int layer, RowId token) override;

 private:
  KvView& inner_;
  Redirect writes_, reads_;
  std::vector<std::byte> nowhere_;  // zeros until something is written there
};

/// A cache of the call's own slots, to learn what a healthy write stores.
class ScratchKv final : public KvView {
 public:
  explicit ScratchKv(const KvView& like) : dtype_(like.dtype()), width_(like.width()) {}
  DType dtype() const override { return dtype_; }
  std::int64_t width() const override { return width_; }
  std::byte* write_slot(KvPart part, int layer, RowId token) override;
  const std::byte* read_slot(KvPart part, int layer, RowId token) override { return write_slot(part, layer, token); }

 private:
  DType dtype_;
  std::int64_t width_;
  std::map<std::pair<std::int32_t, std::int32_t>, std::vector<std::byte>> slots_;
};

}  // namespace greta
