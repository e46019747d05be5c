#include "fault/kv_views.h"

namespace greta {

RedirectedKv::RedirectedKv(KvView& inner, Redirect writes, Redirect reads)
    : inner_(inner),
      writes_(std::move(writes)),
      reads_(std::move(reads)),
      nowhere_(static_cast<std::size_t>(row_bytes(inner.dtype(), inner.width()))) {}

std::byte* RedirectedKv::write_slot(KvPart part, int layer, RowId token) {
  if (!writes_) return inner_.write_slot(part, layer, token);
  const auto place = writes_({layer, token});
  return place ? inner_.write_slot(part, place->layer, place->token) : nowhere_.data();
}

const std::byte* RedirectedKv::read_slot(KvPart part, int layer, RowId token) {
  if (!reads_) return inner_.read_slot(part, layer, token);
  const auto place = reads_({layer, token});
  return place ? inner_.read_slot(part, place->layer, place->token) : nowhere_.data();
}

std::byte* ScratchKv::write_slot(KvPart, int, RowId token) {
  auto& slot = slots_[{token.seq, token.position}];
  slot.resize(static_cast<std::size_t>(row_bytes(dtype_, width_)));
  return slot.data();
}

}  // namespace greta
