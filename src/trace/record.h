// What an arm recorded: fingerprints of rows, by key (prompt, position, layer, stage).
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/row_sums.h"
#include "core/site.h"
#include "core/stage.h"

namespace greta {

/// Of one row. Defined in trace/fingerprint.h; the same on every backend for the same bits.
struct Fingerprint {
  Hash128 hash;
  std::int64_t count = 0;
  double min = 0, max = 0, mean = 0, rms = 0, abs_sum = 0;  // over finite elements
  std::int64_t nan = 0, inf = 0, zero = 0;
  std::vector<double> sample;  // the first `sample_n` elements, as float64 (exact); may be empty
  std::vector<double> sketch;  // count-sketch of all elements; empty where it was not kept (foreign captures)
  /// false: nothing is known of the row beyond the slice (a foreign line without a hash); hash (as f64), count and statistics
  /// are then those of the slice.
  bool whole_row = true;
};

enum class OperandKind : std::uint8_t { activation, weight, kv, scalar };
std::string_view name(OperandKind kind);
std::optional<OperandKind> operand_kind_from_name(std::string_view name);

/// One operand of the op that produced a stage, as the kernel was given it.
struct OperandRecord {
  OperandKind kind = OperandKind::activation;
  std::string argument;  // of the op: "x", "weight", "eps"
  std::string name;      // of a weight: the tensor's name
  // activation, kv: where it came from and what was read
  std::optional<Stage> producer_stage;
  std::int32_t producer_layer = -1;
  std::int32_t producer_position = -1;
  std::uint32_t buffer = 0;
  std::uint64_t generation = 0;
  std::optional<DType> dtype;
  std::string layout;
  std::optional<Hash128> hash;           // of the row as read; of the tensor's bytes for weights (XXH3-128)
  std::optional<Hash128> producer_hash;  // what the producer wrote in that row, where it was seen
  double value = 0;                      // scalar
};

enum class Exposure : std::uint8_t { exposed, not_exposed };

/// One row of one stage.
struct StageRecord {
  Stage stage = Stage::x_in;
  std::int32_t layer = 0;
  std::int32_t position = 0;
  std::int32_t token_id = -1;  // -1: unknown
  Phase phase = Phase::prefill;
  std::int32_t step = 0;  // forward call of the arm, from 0
  /// true: a KV slot of an earlier position as this step's attention found it (written in an earlier step).
  bool reread = false;
  Exposure exposure = Exposure::exposed;
  std::optional<DType> dtype;
  std::int64_t offset_bytes = 0;  // of the row in its buffer
  std::string route;
  Fingerprint print;
  std::vector<OperandRecord> operands;
};

struct LogitsRecord {
  std::int32_t position = 0;
  std::int32_t token_id = -1;
  Phase phase = Phase::prefill;
  std::int32_t step = 0;
  Hash128 hash;
  bool has_hash = true;                     // false: a foreign line without one
  double mean = 0, min = 0, max = 0;        // NaN: unknown (foreign)
  std::int32_t top1_id = -1, top2_id = -1;  // ties go to the lowest id
  double top1_logit = 0, top2_logit = 0;
  bool tie = false;
  std::int32_t vocab = 0;
};

/// What one arm recorded for one prompt.
struct Capture {
  std::string prompt_id;
  std::string exp;  // "E0" or "E1"
  char arm = 'a';
  bool foreign = false;              // not made by greta: layer-0 x_in is checked too
  std::vector<std::int32_t> tokens;  // prompt and forced tokens, by position; empty: unknown (foreign)
  std::int32_t n_prompt = 0;         // n; position n-1 is prefill_last / decode0
  std::int32_t n_layers = 0;
  std::vector<std::int32_t> schedule;                 // rows of every forward call, in order
  std::int32_t sequences = 1;                         // computed at once: rows of a call are theirs in turn (while recording)
  std::int64_t kv_slots_read_from_earlier_steps = 0;  // by the decode0 step, smallest over layers and K/V
  // arm description, as recorded while running
  std::string backend, plan, build, host;
  std::string device;  // "NVIDIA H200 (sm_90)"; empty: a CPU, or unknown
  int threads = 0;
  std::string model_hash, tokenizer_hash;                   // of the model file, of its vocabulary; empty: unknown
  std::vector<std::pair<std::string, std::string>> routes;  // op -> route
  std::int64_t fault_effects = 0;  // elements changed by planted faults (a count, never what they were)
  bool fault_planted = false;
  std::vector<StageRecord> records;
  std::vector<LogitsRecord> logits;
};

}  // namespace greta
