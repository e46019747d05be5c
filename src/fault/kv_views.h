// Decorators of the KV cache that faults put between an op and its slots.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <tuple>
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

struct WrongCall;
/// The call works on its cache through a redirection that lives as long as the call.
void redirect_kv(WrongCall& call, RedirectedKv::Redirect writes, RedirectedKv::Redirect reads);

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

/// The cache as some of its slots were; writes go to the cache as it is.
class EarlierKv final : public KvView {
 public:
  explicit EarlierKv(KvView& now) : now_(now) {}
  void remember(KvPart part, int layer, RowId token);
  DType dtype() const override { return now_.dtype(); }
  std::int64_t width() const override { return now_.width(); }
  std::byte* write_slot(KvPart part, int layer, RowId token) override { return now_.write_slot(part, layer, token); }
  const std::byte* read_slot(KvPart part, int layer, RowId token) override;

 private:
  KvView& now_;
  std::map<std::tuple<KvPart, int, std::int32_t, std::int32_t>, std::vector<std::byte>> slots_;
};

}  // namespace greta
