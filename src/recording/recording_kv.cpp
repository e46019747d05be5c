#include "recording/recording_kv.h"

namespace greta {

std::byte* RecordingKv::write_slot(KvPart part, int layer, RowId token) {
  std::byte* slot = inner_.write_slot(part, layer, token);
  ledger_.wrote(slot, {part, layer, token, step_});
  return slot;
}

const std::byte* RecordingKv::read_slot(KvPart part, int layer, RowId token) {
  const std::byte* slot = inner_.read_slot(part, layer, token);
  if (const KvLedger::Write* write = ledger_.writer(slot); token.seq == 0 && write != nullptr && write->step < step_)
    earlier_.insert(slot);
  return slot;
}

}  // namespace greta
