// A call that is being made wrong: some rows of one op call, the ops to compute with, and what earlier calls left.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <tuple>
#include <vector>

#include "fault/altered_weights.h"
#include "fault/op_call.h"
#include "fault/spec.h"
#include "fault/target.h"

namespace greta {

/// A row kept for a later call: buffers are reused across layers, so an older row is served from a copy.
struct KeptRow {
  std::vector<std::byte> bytes;
  DType dtype = DType::f32;
  std::int64_t cols = 0;
  RowId token;
  Origin origin;
};

/// What a kept row is looked up by. `place` is a position, or whatever the kind says.
struct KeptKey {
  Stage stage = Stage::x_in;
  std::int32_t layer = 0;
  std::int32_t seq = 0;
  std::int32_t place = 0;
  auto tied() const { return std::tie(stage, layer, seq, place); }
  friend bool operator<(const KeptKey& a, const KeptKey& b) { return a.tied() < b.tied(); }
};
using KeptRows = std::map<KeptKey, KeptRow>;

/// The picked rows of one call, all of one sequence. Kinds alter the operands that they inherit, or say what is done instead.
struct WrongCall : OpCall {
  WrongCall(const OpCall& whole_call, std::vector<std::int64_t> picked, Arena& memory, Ops& kernel_ops, const FaultTarget& at,
            AlteredWeights& altered_weights)
      : OpCall(pick_rows(whole_call, picked, memory)),
        whole(whole_call),
        indices(std::move(picked)),
        arena(memory),
        kernel(kernel_ops),
        target(at),
        altered(altered_weights) {}

  const OpCall& whole;
  std::vector<std::int64_t> indices;  // row i is row indices[i] of the whole call
  Arena& arena;
  Ops& kernel;  // unrecorded: what is computed with it is the kernel's own doing
  const FaultTarget& target;
  AlteredWeights& altered;
  const KeptRows* kept_rows = nullptr;  // of the fault that is being planted
  std::size_t fault = 0;                // its number

  std::vector<std::pair<const FaultSpec*, std::function<void()>>> computations;  // run instead of the op, in order
  std::vector<std::function<void()>> afterwards;                                 // run on the output, in order

  /// Replaces the computation; two faults that both do cannot stand at one place.
  void instead(const FaultSpec& which, std::function<void()> compute) {
    computations.emplace_back(&which, with_kept_rows(std::move(compute)));
  }
  void after(std::function<void()> spoil) { afterwards.push_back(with_kept_rows(std::move(spoil))); }

  /// nullptr: nothing was kept there.
  const KeptRow* kept(const KeptKey& key) const {
    const auto found = kept_rows->find(key);
    return found == kept_rows->end() ? nullptr : &found->second;
  }
  std::int64_t n_rows() const { return static_cast<std::int64_t>(indices.size()); }
  RowId row_id(std::int64_t r) const { return site.rows[static_cast<std::size_t>(r)]; }
  /// A view that serves `row` for every row of the call: rows keep the token that they were computed for.
  TensorView serve(const TensorView& instead_of, const KeptRow& row);
  /// A view over memory of its own that serves one kept row each.
  TensorView serve(const TensorView& instead_of, const std::vector<const KeptRow*>& each);

 private:
  /// What is done later looks up the rows of the fault that is being planted now, not of one planted after it.
  std::function<void()> with_kept_rows(std::function<void()> act) {
    return [this, rows = kept_rows, act = std::move(act)] {
      kept_rows = rows;
      act();
    };
  }
};

}  // namespace greta
