#include "recording/recording_kv.h"

#include "trace/fingerprint.h"

namespace greta {

void RecordingKv::keep(KvJournal& journal, const KvAccess& call) {
  journal_ = &journal;
  first_ = journal.size();
  call_ = call;
}

void RecordingKv::note(bool write, KvPart part, int layer, RowId token, const std::byte* slot) {
  if (journal_ == nullptr || token.seq != 0) return;
  const Hash128 hash = write ? Hash128{} : row_hash(slot, inner_.dtype(), inner_.width());
  KvAccess& access = journal_->emplace_back(call_);
  access.write = write;
  access.part = part;
  access.layer = layer;
  access.position = token.position;
  access.step = step_;
  access.slot = slot;
  access.hash = hash;
}

void RecordingKv::finish_writes() {
  if (journal_ == nullptr) return;
  for (std::size_t i = first_; i < journal_->size(); ++i)
    if (KvAccess& access = (*journal_)[i]; access.write) access.hash = row_hash(access.slot, inner_.dtype(), inner_.width());
}

std::byte* RecordingKv::write_slot(KvPart part, int layer, RowId token) {
  std::byte* slot = inner_.write_slot(part, layer, token);
  ledger_.wrote(slot, {part, layer, token, step_});
  note(true, part, layer, token, slot);
  return slot;
}

const std::byte* RecordingKv::read_slot(KvPart part, int layer, RowId token) {
  const std::byte* slot = inner_.read_slot(part, layer, token);
  if (const KvLedger::Write* write = ledger_.writer(slot); token.seq == 0 && write != nullptr && write->step < step_)
    earlier_.insert(slot);
  note(false, part, layer, token, slot);
  return slot;
}

}  // namespace greta
