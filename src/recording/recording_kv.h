// Who wrote and who read each KV slot: a decorator of KvView and the ledger that it fills.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <unordered_map>
#include <vector>

#include "core/site.h"
#include "ops/kv_view.h"
#include "trace/record.h"

namespace greta {

/// One slot of sequence 0 that a call was asked to write or that a kernel read, and what it held then. `slot` is where that
/// really was, which a decorator between the op and the cache may have changed.
struct KvAccess {
  bool write = false;
  KvPart part = KvPart::k;
  int layer = 0;
  std::int32_t position = 0;  // for which the slot was asked
  std::int32_t last = 0;      // position of the call's last row
  int step = 0;
  Phase phase = Phase::prefill;
  int call = 0;  // of kv_write, qk or pv, from 0
  const std::byte* slot = nullptr;
  Hash128 hash;  // of the values: after the write, before the read's kernel runs
};
/// In the order in which calls were made.
using KvJournal = std::vector<KvAccess>;

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
  /// Every access from now on is added to `journal`, with what `call` says of the call. Writes are complete after
  /// finish_writes().
  void keep(KvJournal& journal, const KvAccess& call);
  /// The kernel is done: what it wrote is hashed.
  void finish_writes();

  DType dtype() const override { return inner_.dtype(); }
  std::int64_t width() const override { return inner_.width(); }
  std::byte* write_slot(KvPart part, int layer, RowId token) override;
  const std::byte* read_slot(KvPart part, int layer, RowId token) override;

  /// Distinct slots of sequence 0 among this call's reads that an earlier step wrote.
  std::int64_t read_from_earlier_steps() const { return static_cast<std::int64_t>(earlier_.size()); }

 private:
  void note(bool write, KvPart part, int layer, RowId token, const std::byte* slot);

  KvView& inner_;
  KvLedger& ledger_;
  int step_;
  std::set<const std::byte*> earlier_;
  KvJournal* journal_ = nullptr;  // null: off
  std::size_t first_ = 0;         // of this call's accesses
  KvAccess call_;
};

}  // namespace greta
