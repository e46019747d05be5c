// A session runs forward calls in order over one KV cache: prefill in chunks, decode one row at a time.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/probe.h"
#include "engine/forward.h"
#include "engine/kv_sequence.h"
#include "engine/plan.h"
#include "engine/workspace.h"
#include "model/model.h"
#include "ops/kv_view.h"
#include "ops/ops.h"

namespace greta {

/// Which rows of a prefill get logits.
enum class LogitsOf : std::uint8_t { none, last, all };

class Session {
 public:
  /// `ops` and `kv` (with their decorators), the model and `buffers` (null: the host's) outlive the session. Throws Error where
  /// the model's heads are not whole blocks of the cache's type.
  Session(const Model& model, Plan plan, Ops& ops, KvView& kv, BufferMemory* buffers = nullptr);

  /// One forward call; the view is valid until the next. `phase` is a label for decorators. Throws Error where a token id is
  /// outside the vocabulary or rows are empty.
  TensorView step(Phase phase, const Batch& batch, Probe* probe);

  /// Prefills `tokens` of sequence 0 at positions first.. in chunks of at most `chunk` rows (0: all at once). Logits are wanted
  /// for positions >= logits_from. `on_logits` gets every chunk's logits (maybe zero rows).
  template <class OnLogits>
  void prefill(std::span<const std::int32_t> tokens, std::int32_t first, std::int32_t chunk, std::int32_t logits_from,
               Probe* probe, OnLogits&& on_logits) {
    const auto n = static_cast<std::int32_t>(tokens.size());
    const std::int32_t size = chunk > 0 ? chunk : n;
    for (std::int32_t begin = 0; begin < n; begin += size) {
      const std::int32_t count = std::min(size, n - begin);
      on_logits(run_rows(Phase::prefill, tokens.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)),
                         first + begin, logits_from, probe));
    }
  }

  /// Decodes one token of sequence 0 at `position`: logits [1, vocab].
  TensorView decode(std::int32_t token, std::int32_t position, Probe* probe) {
    return run_rows(Phase::decode, {&token, 1}, position, position, probe);
  }

  const Plan& plan() const { return plan_; }
  /// Rows of every forward call so far.
  const std::vector<std::int32_t>& schedule() const { return schedule_; }
  /// What the cache holds, and what can be done with it between forward calls.
  KvSequences& sequences() { return sequences_; }

  /// Where a session stands, for a run that starts again from a snapshot of the cache.
  struct Place {
    int steps = 0;  // forward calls so far
    KvHeld held;
  };
  Place place() const { return {static_cast<int>(schedule_.size()), sequences_.held()}; }
  void return_to(const Place& place) {
    schedule_.resize(static_cast<std::size_t>(place.steps));
    sequences_.set_held(place.held);
  }

 private:
  TensorView run_rows(Phase phase, std::span<const std::int32_t> tokens, std::int32_t first, std::int32_t logits_from,
                      Probe* probe);

  const Model& model_;
  Plan plan_;
  Ops& ops_;
  KvView& kv_;
  KvSequences sequences_;
  Workspace workspace_;
  std::vector<std::int32_t> schedule_;
};

/// Row `r` of a view of F32 or F64 values, widened exactly.
std::vector<double> row_values(const TensorView& view, std::int64_t r);

}  // namespace greta
