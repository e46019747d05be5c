#include "fault/kv_views.h"

#include <memory>

#include "fault/wrong_call.h"

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

void redirect_kv(WrongCall& call, RedirectedKv::Redirect writes, RedirectedKv::Redirect reads) {
  const auto view = std::make_shared<RedirectedKv>(*call.kv, std::move(writes), std::move(reads));
  call.arena.held.push_back(view);
  call.kv = view.get();
}

std::byte* ScratchKv::write_slot(KvPart, int, RowId token) {
  auto& slot = slots_[{token.seq, token.position}];
  slot.resize(static_cast<std::size_t>(row_bytes(dtype_, width_)));
  return slot.data();
}

void EarlierKv::remember(KvPart part, int layer, RowId token) {
  const std::byte* slot = now_.read_slot(part, layer, token);
  slots_[{part, layer, token.seq, token.position}].assign(slot, slot + row_bytes(dtype(), width()));
}

const std::byte* EarlierKv::read_slot(KvPart part, int layer, RowId token) {
  const auto found = slots_.find({part, layer, token.seq, token.position});
  return found == slots_.end() ? now_.read_slot(part, layer, token) : found->second.data();
}

}  // namespace greta
