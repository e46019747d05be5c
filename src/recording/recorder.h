// Collects what one arm does for one prompt: rows of stages through the probe, operands through RecordingOps.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "core/probe.h"
#include "core/site.h"
#include "ops/cpu/thread_pool.h"
#include "ops/routes.h"
#include "recording/recording_kv.h"
#include "recording/weight_hashes.h"
#include "trace/record.h"

namespace greta {

/// A row of a stage, whatever the step.
struct RecordKey {
  std::int32_t position = 0;
  std::int32_t layer = 0;
  Stage stage = Stage::x_in;
  friend auto operator<=>(const RecordKey&, const RecordKey&) = default;
};

struct RecorderOptions {
  std::vector<Stage> stages;         // empty: all
  std::vector<std::int32_t> layers;  // empty: all; once-a-token stages are always kept
  std::int64_t sample = 1024;        // elements of the slice
  /// Rows from this position on keep slice, sketch and operands; earlier ones hash and statistics only.
  std::int32_t detail_from = 0;
  std::set<RecordKey> detail_also;     // and these
  bool prefill = true, decode = true;  // phases that are recorded
  bool after_shift = false;            // nothing is recorded before the first kv_shift
  bool full = false;                   // also keep every row whole (FullTensors)
  bool kv_journal = false;             // also keep every access of the cache (KvJournal)
  ThreadPool* pool = nullptr;          // fingerprints rows of a stage side by side; null: one after the other
};

/// Rows kept whole, by (layer, stage): position -> bytes as stored, or as dequantised F32 where they are stored in blocks.
struct FullTensor {
  DType dtype = DType::f32;
  std::map<std::int32_t, std::vector<std::byte>> rows;
  std::map<std::int32_t, std::vector<std::byte>> rereads;  // KV slots that a later step found changed, as it found them first
};
using FullTensors = std::map<std::pair<std::int32_t, Stage>, FullTensor>;

/// Keeps row r of a tensor whole in `row`, and its type in `full`: as stored; a row of blocks as its values, exactly (F64 for
/// quantised activations, else F32), since files of tensors hold single elements.
void keep_whole(FullTensor& full, std::vector<std::byte>& row, const TensorView& output, std::int64_t r);

/// Sequence 0 is recorded. Values are only read: nothing that is observed depends on the observer.
class Recorder final : public Probe {
 public:
  /// What a later step needs to know of earlier ones; copied with a snapshot of the run.
  struct Memory {
    KvLedger ledger;
    std::map<RecordKey, Hash128> slots;  // KV slots as last seen
  };

  /// `capture` arrives with prompt, arm, tokens and plan filled in; records are added to it.
  Recorder(Capture capture, RecorderOptions options, WeightHashes& weights);

  void operator()(Stage stage, int layer, const TensorView& output) override;
  void not_exposed(Stage stage, int layer) override;

  // From RecordingOps, in the order of calls:
  void begin_step(const StepInfo& step, const RouteTable& routes);
  /// K and V move to other slots (kv_shift): until the next step, slots that come through the probe are rows of their own.
  void begin_shift();
  void note_activation(const OpSite& site, const char* argument, const TensorView& x);
  void note_weight(const OpSite& site, const char* argument, const WeightView& weight);
  void note_scalar(const OpSite& site, const char* argument, double value);
  void note_positions(const OpSite& site, std::span<const std::int32_t> positions);
  void note_kv(const OpSite& site, KvPart part, KvView& kv);
  /// A new call: what an earlier one was handed for the same rows is forgotten.
  void note_route(const OpSite& site, OpKind op);
  void note_earlier_reads(const OpSite& site, std::int64_t slots);
  /// The cache as the call at `site` is to see it.
  RecordingKv recording_kv(const OpSite& site, KvView& kv);

  const Memory& memory() const { return memory_; }
  void set_memory(Memory memory) { memory_ = std::move(memory); }

  Capture& capture() { return capture_; }
  const FullTensors& full_tensors() const { return full_; }
  const KvJournal& kv_journal() const { return journal_; }

 private:
  using Place = std::tuple<std::int32_t, Stage>;  // layer, stage
  bool wants(Stage stage, int layer) const;
  bool detail(const RecordKey& key) const { return key.position >= options_.detail_from || options_.detail_also.contains(key); }
  bool operands_wanted(const OpSite& site) const;
  /// Calls act(r) for every row, on the pool where there is one.
  template <class Act>
  void for_rows(std::int64_t n_rows, const Act& act) const;
  /// What record_row() needs of a row's values, which takes no state of the recorder: of a slot seen before, the hash alone.
  Fingerprint print_of(Stage stage, int layer, const TensorView& output, std::int64_t r) const;
  bool is_reread(Stage stage, std::int32_t position) const;
  void record_row(Stage stage, int layer, const TensorView& output, std::int64_t r, Fingerprint print);
  void attach_operands(const RecordKey& key, bool whole, StageRecord& record);
  std::vector<OperandRecord>& pending(const OpSite& site, std::int32_t position);

  Capture capture_;
  RecorderOptions options_;
  WeightHashes& weights_;
  Memory memory_;
  FullTensors full_;
  KvJournal journal_;
  int kv_calls_ = 0;
  Phase phase_ = Phase::prefill;
  int step_ = -1;
  bool recording_ = true;  // of the current step's phase
  bool shifting_ = false;  // between a kv_shift and the next step
  bool shifted_ = false;   // a kv_shift has been seen
  std::array<bool, kStageCount> stage_wanted_{};
  std::set<std::int32_t> layer_wanted_;
  std::set<std::int32_t> step_positions_;
  RouteTable routes_{};
  std::map<Place, OpKind> op_of_stage_;
  std::map<RecordKey, std::vector<OperandRecord>> pending_;  // operands of rows, of the current step
  std::unordered_map<std::uint64_t, Hash128> produced_;      // rows of the current step, by packed key
  std::int64_t earlier_reads_ = -1;                          // smallest over the step's attention calls
};

}  // namespace greta
