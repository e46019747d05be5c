// Which positions of each sequence hold K and V, and what inference servers do with them: remove, copy, shift, context shift.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "core/probe.h"
#include "core/tensor.h"
#include "model/model.h"
#include "ops/kv_view.h"
#include "ops/ops.h"

namespace greta {

/// Positions that hold K and V, a sequence at a time. Copyable: a copy is a snapshot.
class KvHeld {
 public:
  void set(RowId token, bool held);
  bool holds(RowId token) const;
  /// One past the last position held; 0: none.
  std::int32_t end(std::int32_t seq) const;
  /// The first position that is not held: a row attends to all before its own, so it can stand here at most.
  std::int32_t first_gap(std::int32_t seq) const;
  /// Sequences that hold something, ascending.
  std::vector<std::int32_t> sequences() const;
  /// "positions 0..3, 8" or "nothing", for errors.
  std::string text(std::int32_t seq) const;

 private:
  std::map<std::int32_t, std::vector<bool>> held_;  // by position; the last is true
};

/// The sequences of one cache. Ranges are [p0, p1). Every operation checks all it needs before it changes anything, and throws
/// Error (one line) on a range that is empty, reversed, negative, not wholly held (so on a second removal), or outside the
/// cache.
class KvSequences {
 public:
  /// All outlive this.
  KvSequences(const Model& model, Ops& ops, KvView& kv) : model_(model), ops_(ops), kv_(kv) {}

  /// Refuses rows that would attend to positions that hold nothing: attention reads positions 0..p of a sequence, without
  /// holes.
  void check_history(std::span<const RowId> rows) const;
  void wrote(std::span<const RowId> rows);

  /// Forgets K and V of [p0, p1). Later positions stay where they are; nothing can be computed after the hole until it is
  /// closed.
  void remove(std::int32_t seq, std::int32_t p0, std::int32_t p1);
  /// Copies K and V of [p0, p1) of one sequence to the same positions of another, which must hold nothing there.
  void copy(std::int32_t from, std::int32_t to, std::int32_t p0, std::int32_t p1);
  /// Moves [p0, p1) by delta: in every layer K turns by delta (RoPE angles add, Su et al. 2021, eq. 16), V moves as it is. The
  /// positions that it moves to must hold nothing, but for those that it leaves. A probe sees all slots of the sequence
  /// afterwards.
  void shift(std::int32_t seq, std::int32_t p0, std::int32_t p1, std::int32_t delta, Probe* probe = nullptr);
  /// Context shift of every sequence: keeps the first `keep` positions, removes the next `discard`, and shifts what is left
  /// down.
  void context_shift(std::int32_t keep, std::int32_t discard, Probe* probe = nullptr);

  const KvHeld& held() const { return held_; }
  void set_held(KvHeld held) { held_ = std::move(held); }

 private:
  void check_range(std::string_view what, std::int32_t seq, std::int32_t p0, std::int32_t p1) const;
  void check_shift(std::int32_t seq, std::int32_t p0, std::int32_t p1, std::int32_t delta) const;
  /// `moved`: where the slots go, of one or more sequences.
  void move_slots(std::span<const RowId> moved, std::int32_t delta, Probe* probe);

  const Model& model_;
  Ops& ops_;
  KvView& kv_;
  KvHeld held_;
};

}  // namespace greta
