// One arm of a comparison, put together: cache, ops, recorder, faults, session.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cli/substitution.h"
#include "engine/device_session.h"
#include "engine/kv_cache.h"
#include "engine/plan.h"
#include "engine/sampler.h"
#include "engine/session.h"
#include "fault/faulty_ops.h"
#include "model/model.h"
#include "ops/cpu/thread_pool.h"
#include "ops/cpu_ops.h"
#include "ops/routes.h"
#include "recording/device_recorder.h"
#include "recording/recorder.h"
#include "recording/recording_ops.h"
#include "recording/weight_hashes.h"

namespace greta::cli {

/// In which order a call of a batch has its rows: all sequences of a position, the prompt's first or last; or one sequence
/// after the other.
enum class BatchOrder : std::uint8_t { by_position, prompt_last, by_sequence };

/// What an arm computes with (docs/architecture.md, "Arms").
struct ArmSpec {
  std::string backend = "cpu";
  int device = 0;  // of the backend
  Plan plan;
  std::int32_t chunk = 0;  // rows of a prefill call at most; 0: all at once
  std::int32_t batch = 1;  // sequences that every forward call computes together
  BatchOrder order = BatchOrder::by_position;
  bool duplicates = false;  // the companions of a batch are the prompt itself
  int threads = 1;
  Isa isa = Isa::scalar;
  std::vector<FaultSpec> faults;
};

/// What the arm's faults are planted in; `n_prompt` resolves position -1.
FaultTarget fault_target(const ArmSpec& spec, const Model& model, std::int32_t n_prompt);
/// Throws Error for a fault that the model, plan or arm cannot have.
void check_faults(const ArmSpec& spec, const Model& model);
/// Throws Error for the first fault that changed nothing; `effects` has one count a fault. `which` begins the line: "arm B: ".
void refuse_idle_faults(const ArmSpec& spec, const std::vector<std::int64_t>& effects, std::string_view which);

/// Token of sequence `seq` of a batch where sequence 0, the prompt, has `token`: the same at position 0 (BOS), elsewhere the
/// token `seq` ids later, mod the vocabulary. Companions so differ from the prompt, and from each other, at every position that
/// counts.
std::int32_t companion_token(std::int32_t token, std::int32_t seq, std::int32_t position, std::int32_t vocab_size);

/// How an arm's tensors lie. `observed`: on the host, call by call, whatever the backend: faults, operands, whole rows,
/// snapshots. `resident`: all of it on a GPU, decode as a captured graph, fingerprints made there: what a user runs.
enum class ArmPath : std::uint8_t { observed, resident };
/// The path on which an arm of this spec can run that nobody needs to look into: resident on a GPU, unless a fault is planted.
ArmPath fastest_path(const ArmSpec& spec);

/// One arm over one prompt: SubstitutingOps(FaultyOps(RecordingOps(routes))) over one cache. With a batch, every forward call
/// computes the same positions of all sequences, in the spec's order; sequence 0 alone is recorded and gets logits.
class Arm {
 public:
  /// `capacity` positions are kept in the cache. `n_prompt` resolves a fault's position -1.
  /// Only prefill(), decode(), record() and take_capture() go with path `resident`; the others throw Error.
  Arm(const Model& model, const ArmSpec& spec, std::int32_t capacity, std::int32_t n_prompt, WeightHashes& weights,
      ArmPath path = ArmPath::observed);

  /// From now on the chosen rows of sequence 0 get their right values (cli/substitution.h); `tokens` by position.
  void substitute(RightRows rows, std::vector<std::int32_t> tokens) {
    substituting_.substitute(std::move(rows), std::move(tokens));
  }
  /// Chosen rows that stayed as they were, for want of an input.
  std::int64_t not_substituted() const { return substituting_.left(); }

  /// What is recorded from now on; until then nothing is. The recorder starts empty.
  void record(Capture header, RecorderOptions options);

  /// Prefills positions first.. ; logits of positions >= logits_from go to on_logits(position, row).
  using OnLogits = std::function<void(std::int32_t position, const TensorView& logits, std::int64_t row)>;
  void prefill(std::span<const std::int32_t> tokens, std::int32_t first, std::int32_t logits_from, const OnLogits& on_logits);
  /// Logits of `token` at `position`.
  std::vector<double> decode(std::int32_t token, std::int32_t position);
  /// The token that `sampler` draws of them; on path `resident` it alone comes back from the device. Throws Error where no
  /// logit is a number.
  std::int32_t decode(std::int32_t token, std::int32_t position, Sampler& sampler);
  /// Of every sequence: keeps the first `keep` positions, discards the next `discard`, shifts the rest down.
  void context_shift(std::int32_t keep, std::int32_t discard);

  /// All that a step depends on: cache, decorators' memories, place in the schedule.
  struct Snapshot {
    KvCache kv;
    Recorder::Memory recorder;
    FaultyOps::Memory faults;
    Session::Place place;
  };
  Snapshot snapshot() const;
  /// `extra` faults are planted beside the arm's own from here on.
  void restore(const Snapshot& snapshot, const std::vector<FaultSpec>& extra = {});

  /// Ends the recording and gives it out, with schedule, routes and the count of the faults' effects.
  Capture take_capture();
  const FullTensors& full_tensors() const { return recorder_->full_tensors(); }
  const KvJournal& kv_journal() const { return recorder_->kv_journal(); }
  /// A slot of sequence 0 as it is now, [1, width]; valid until the cache changes.
  TensorView kv_slot(KvPart part, int layer, std::int32_t position);
  /// The slot of the cache that lies at an address; nullopt: none does.
  std::optional<KvPlace> kv_place(const std::byte* slot) const { return kv_.place(slot); }
  /// Elements that each fault changed, in the order of the arm's own.
  std::vector<std::int64_t> fault_effects() const { return faulty_.effects_by_fault(); }

 private:
  /// One forward call: `tokens` of sequence 0 at positions first.., and its companions'.
  TensorView run_rows(Phase phase, std::span<const std::int32_t> tokens, std::int32_t first, std::int32_t logits_from);
  void refuse_resident(std::string_view what) const;
  Probe* probe() { return recording_on_ ? recorder_.get() : nullptr; }

  const Model& model_;
  ArmSpec spec_;
  std::int32_t n_prompt_;
  WeightHashes& weights_;
  ThreadPool pool_;
  KvCache kv_;
  std::unique_ptr<Ops> route_;
  std::unique_ptr<Recorder> recorder_;
  RecordingOps recording_;
  FaultyOps faulty_;
  SubstitutingOps substituting_;
  Session session_;
  bool recording_on_ = false;
  std::unique_ptr<DeviceSession> resident_;  // where the path is that
  std::unique_ptr<DeviceRecorder> device_recorder_;
};

}  // namespace greta::cli
