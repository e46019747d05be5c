// Who wrote and who read each KV slot: a decorator of KvView and the ledger that it fills.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <unordered_map>
#include <vector>

#include "core/site.h"
#include "ops/kv_view.h"

namespace greta {

/// Slots are known by their place in the cache, which does not move while a run lasts (snapshots copy into it).
class KvLedger {
 public:
  struct Write {
    KvPart part = KvPart::k;
    int layer = 0;
    RowId token;  // for which token the slot was written
    int step = 0;
  };
  void wrote(const std::byte* slot, const Write& write) { writes_[slot] = write; }
  /// nullptr: nobody wrote it.
  const Write* writer(const std::byte* slot) const {
    const auto found = writes_.find(slot);
    return found == writes_.end() ? nullptr : &found->second;
  }

 private:
  std::unordered_map<const std::byte*, Write> writes_;
};

/// Stands between one op call and the cache.
class RecordingKv final : public KvView {
 public:
  RecordingKv(KvView& inner, KvLedger& ledger, int step) : inner_(inner), ledger_(ledger), step_(step) {}

  DType dtype() const override { return inner_.dtype(); }
  std::int64_t width() const override { return inner_.width(); }
  std::byte* write_slot(KvPart part, int layer, RowId token) override;
  const std::byte* read_slot(KvPart part, int layer, RowId token) override;

  /// Distinct slots of sequence 0 among this call's reads that an earlier step wrote.
  std::int64_t read_from_earlier_steps() const { return static_cast<std::int64_t>(earlier_.size()); }

 private:
  KvView& inner_;
  KvLedger& ledger_;
  int step_;
  std::set<const std::byte*> earlier_;
};

}  // namespace greta
