// Which record of arm A meets which record of arm B: by key and equal tokens, never by call order or address.
#pragma once

#include <cstdint>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "isolate/experiment.h"
#include "isolate/verdict.h"
#include "trace/record.h"

namespace greta::isolate {

/// Layer of keys of stages that exist once a token: after all layers, whatever number a writer gave them.
inline constexpr std::int32_t kAfterLayers = std::numeric_limits<std::int32_t>::max();

struct Key {
  std::int32_t position = 0;
  std::int32_t layer = 0;  // kAfterLayers where once_per_token(stage)
  Stage stage = Stage::x_in;
  friend auto operator<=>(const Key&, const Key&) = default;
};
Key key_of(const StageRecord& record);
/// "ffn_norm layer 3 position 4", without the layer for stages that exist once a token.
std::string place(Stage stage, int layer, int position);

/// The records of one capture by key. A key has several where a later step found a KV slot changed. The capture must outlive
/// it. Logits of which only the event is known (hash, mean, top tokens; captures that are not ours) count as rows without
/// slice.
class RecordIndex {
 public:
  explicit RecordIndex(const Capture& capture);
  RecordIndex(const RecordIndex&) = delete;
  RecordIndex& operator=(const RecordIndex&) = delete;
  /// As it was first: the row written, else the first reread; nullptr where there is none.
  const StageRecord* find(const Key& key) const;
  /// All of a key, the one that find() gives first.
  std::span<const StageRecord* const> all(const Key& key) const;
  /// In order of position, layer, stage.
  std::span<const StageRecord* const> records() const { return records_; }

 private:
  std::vector<StageRecord> from_logits_;
  std::vector<const StageRecord*> records_;
};

struct RecordPair {
  const StageRecord* a = nullptr;
  const StageRecord* b = nullptr;
  bool reread = false;  // one of the two is a KV slot as a later step found it
};

struct Alignment {
  std::vector<RecordPair> pairs;     // in order of arm B's step, layer, stage, position
  std::int64_t expected = 0;         // keys that one arm has, in positions that are to be compared
  std::int64_t compared = 0;         // keys that both have
  std::vector<std::string> missing;  // "ffn_norm layer 3 position 4 in B"; at most 8
  std::int64_t missing_count = 0;
  std::vector<std::string> not_exposed;  // "attn_scores (route flash in B)", a stage and arm once
  std::optional<Judgement> misaligned;   // where set, the pairs must not be judged
};

/// The position of prefill_last and decode0: n-1 of the prompt, else the last position that both captures hold.
std::int32_t last_prompt_position(const Capture& a, const Capture& b);

/// Mode E1. `n_positions` > 0: positions 0..n_positions-1 are to be compared; 0: those that both have.
/// Misaligned: token ids differ at a position, prompts of different lengths, or (captures that are not ours) layer-0 x_in
/// missing or different: there, only equal inputs show that both engines read the same token.
Alignment align(const Capture& a, const RecordIndex& in_a, const Capture& b, const RecordIndex& in_b,
                const ExperimentSpec& spec, std::int32_t n_positions);

/// Mode E0: prefill_last against the first decode step's row, whatever their tokens and positions.
Alignment align_as_designed(const Capture& a, const RecordIndex& in_a, const Capture& b, const RecordIndex& in_b,
                            const ExperimentSpec& spec);

}  // namespace greta::isolate
