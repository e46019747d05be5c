#include "recording/recorder.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "core/activation_blocks.h"
#include "core/blocks.h"
#include "recording/logits_record.h"
#include "trace/fingerprint.h"

namespace greta {
namespace {

std::uint64_t packed(Stage stage, std::int32_t layer, std::int32_t position) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(position)) << 24) |
         (static_cast<std::uint64_t>(static_cast<std::uint32_t>(layer) & 0xffffu) << 8) | static_cast<std::uint64_t>(stage);
}

bool is_slot_stage(Stage stage) { return stage == Stage::k_cache || stage == Stage::v_cache; }

}  // namespace

void keep_whole(FullTensor& full, std::vector<std::byte>& row, const TensorView& output, std::int64_t r) {
  const bool blocks = dtype_info(output.dtype).block_elems > 1;
  full.dtype = output.dtype == DType::q8_f32 ? DType::f64 : blocks ? DType::f32 : output.dtype;
  row.resize(static_cast<std::size_t>(row_bytes(full.dtype, output.cols(r))));
  if (output.dtype == DType::q8_f32) {
    std::vector<double> values(static_cast<std::size_t>(output.cols(r)));
    dequantize_activations(output.row(r), output.cols(r), values.data());
    std::memcpy(row.data(), values.data(), row.size());
  } else if (blocks) {
    std::vector<float> values(static_cast<std::size_t>(output.cols(r)));
    dequantize_row(output.dtype, output.row(r), output.cols(r), values.data());
    std::memcpy(row.data(), values.data(), row.size());
  } else {
    std::memcpy(row.data(), output.row(r), row.size());
  }
}

Recorder::Recorder(Capture capture, RecorderOptions options, WeightHashes& weights)
    : capture_(std::move(capture)), options_(std::move(options)), weights_(weights) {
  if (options_.stages.empty()) options_.stages.assign(all_stages().begin(), all_stages().end());
  for (const Stage stage : options_.stages) stage_wanted_[static_cast<std::size_t>(stage)] = true;
  layer_wanted_.insert(options_.layers.begin(), options_.layers.end());
}

template <class Act>
void Recorder::for_rows(std::int64_t n_rows, const Act& act) const {
  constexpr std::int64_t kFewRows = 4;
  if (options_.pool != nullptr && n_rows > kFewRows) return options_.pool->parallel_for(n_rows, act);
  for (std::int64_t r = 0; r < n_rows; ++r) act(r);
}

bool Recorder::wants(Stage stage, int layer) const {
  return recording_ && stage_wanted_[static_cast<std::size_t>(stage)] &&
         (layer_wanted_.empty() || once_per_token(stage) || layer_wanted_.contains(layer));
}

void Recorder::begin_step(const StepInfo& step, const RouteTable& routes) {
  phase_ = step.phase;
  step_ = step.step;
  recording_ = (step.phase == Phase::prefill ? options_.prefill : options_.decode) && (shifted_ || !options_.after_shift);
  shifting_ = false;
  routes_ = routes;
  step_positions_.clear();
  for (const RowId& row : step.rows) {
    capture_.sequences = std::max(capture_.sequences, static_cast<std::int32_t>(row.seq) + 1);
    if (row.seq == 0) step_positions_.insert(row.position);
  }
  pending_.clear();
  produced_.clear();
  earlier_reads_ = -1;
  capture_.schedule.push_back(static_cast<std::int32_t>(step.rows.size()));
}

void Recorder::begin_shift() { shifted_ = shifting_ = recording_ = true; }

bool Recorder::operands_wanted(const OpSite& site) const { return wants(site.stage, site.layer); }

std::vector<OperandRecord>& Recorder::pending(const OpSite& site, std::int32_t position) {
  return pending_[{position, site.layer, site.stage}];
}

namespace {
/// A second call for the same rows (a decorator above computes some rows again) replaces what the first was given.
OperandRecord& slot_for(std::vector<OperandRecord>& operands, OperandKind kind, const char* argument) {
  for (OperandRecord& operand : operands)
    if (operand.kind == kind && operand.argument == argument) return operand = {};
  return operands.emplace_back();
}
}  // namespace

void Recorder::note_activation(const OpSite& site, const char* argument, const TensorView& x) {
  if (!operands_wanted(site)) return;
  std::vector<Hash128> hashes(static_cast<std::size_t>(x.n_rows));
  for_rows(x.n_rows, [&](std::int64_t r) {
    const auto i = static_cast<std::size_t>(r);
    if (site.rows[i].seq == 0) hashes[i] = row_hash(x.row(r), x.dtype, x.cols(r));
  });
  for (std::int64_t r = 0; r < x.n_rows; ++r) {
    const RowId as_key = site.rows[static_cast<std::size_t>(r)];
    const RowId as_read = x.rows.empty() ? as_key : x.rows[static_cast<std::size_t>(r)];
    if (as_key.seq != 0) continue;
    const Hash128 hash = hashes[static_cast<std::size_t>(r)];
    std::optional<Hash128> wrote;
    if (const auto found = produced_.find(packed(x.origin.stage, x.origin.layer, as_key.position)); found != produced_.end())
      wrote = found->second;
    // Rows without detail keep only an operand that is not what its producer wrote.
    if (!detail({as_key.position, site.layer, site.stage}) && (!wrote || *wrote == hash) && as_read == as_key) continue;
    OperandRecord& operand = slot_for(pending(site, as_key.position), OperandKind::activation, argument);
    operand.kind = OperandKind::activation;
    operand.argument = argument;
    operand.producer_stage = x.origin.stage;
    operand.producer_layer = x.origin.layer;
    operand.producer_position = as_read.position;
    operand.buffer = x.origin.buffer;
    operand.generation = x.origin.generation;
    operand.dtype = x.dtype;
    operand.hash = hash;
    operand.producer_hash = wrote;
  }
}

void Recorder::note_weight(const OpSite& site, const char* argument, const WeightView& weight) {
  if (!weight || !operands_wanted(site)) return;
  for (const RowId& row : site.rows) {
    if (row.seq != 0 || !detail({row.position, site.layer, site.stage})) continue;
    OperandRecord& operand = slot_for(pending(site, row.position), OperandKind::weight, argument);
    operand.kind = OperandKind::weight;
    operand.argument = argument;
    operand.name = std::string(weight.name);
    operand.dtype = weight.dtype;
    operand.layout = weight.layout == WeightLayout::row_major ? "row_major" : "transposed";
    operand.hash = weights_.of(weight);
  }
}

void Recorder::note_scalar(const OpSite& site, const char* argument, double value) {
  if (!operands_wanted(site)) return;
  for (const RowId& row : site.rows) {
    if (row.seq != 0 || !detail({row.position, site.layer, site.stage})) continue;
    OperandRecord& operand = slot_for(pending(site, row.position), OperandKind::scalar, argument);
    operand.kind = OperandKind::scalar;
    operand.argument = argument;
    operand.value = value;
  }
}

void Recorder::note_positions(const OpSite& site, std::span<const std::int32_t> positions) {
  for (std::size_t r = 0; r < site.rows.size(); ++r)
    note_scalar({site.stage, site.layer, site.rows.subspan(r, 1)}, "position", positions[r]);
}

void Recorder::note_kv(const OpSite& site, KvPart part, KvView& kv) {
  if (!operands_wanted(site)) return;
  for (const RowId& row : site.rows) {
    if (row.seq != 0 || !detail({row.position, site.layer, site.stage})) continue;
    Hash128 sum;  // of the slots' hashes in order of position
    for (std::int32_t p = 0; p <= row.position; ++p) {
      const Hash128 one = row_hash(kv.read_slot(part, site.layer, {row.seq, p}), kv.dtype(), kv.width());
      sum.lo = sum.lo * 0x9e3779b97f4a7c15u + one.lo;
      sum.hi = sum.hi * 0x9e3779b97f4a7c15u + one.hi;
    }
    const char* argument = part == KvPart::k ? "k" : "v";
    OperandRecord& operand = slot_for(pending(site, row.position), OperandKind::kv, argument);
    operand.kind = OperandKind::kv;
    operand.argument = argument;
    operand.producer_stage = part == KvPart::k ? Stage::k_cache : Stage::v_cache;
    operand.producer_layer = site.layer;
    operand.producer_position = row.position;
    operand.dtype = kv.dtype();
    operand.hash = sum;
    operand.value = row.position + 1;  // slots read
  }
}

void Recorder::note_route(const OpSite& site, OpKind op) {
  op_of_stage_[{site.layer, site.stage}] = op;
  for (const RowId& row : site.rows)
    if (row.seq == 0) pending_.erase({row.position, site.layer, site.stage});
}

void Recorder::note_earlier_reads(const OpSite& site, std::int64_t slots) {
  (void)site;
  earlier_reads_ = earlier_reads_ < 0 ? slots : std::min(earlier_reads_, slots);
  if (phase_ == Phase::decode && step_positions_.contains(capture_.n_prompt - 1))
    capture_.kv_slots_read_from_earlier_steps = earlier_reads_;
}

RecordingKv Recorder::recording_kv(const OpSite& site, KvView& kv) {
  RecordingKv recording(kv, memory_.ledger, step_);
  if (!options_.kv_journal) return recording;
  KvAccess call;
  call.phase = phase_;
  call.call = kv_calls_++;
  for (const RowId& row : site.rows)
    if (row.seq == 0) call.last = std::max(call.last, row.position);
  recording.keep(journal_, call);
  return recording;
}

void Recorder::operator()(Stage stage, int layer, const TensorView& output) {
  if (!wants(stage, layer)) return;
  std::vector<Fingerprint> prints(static_cast<std::size_t>(output.n_rows));
  for_rows(output.n_rows, [&](std::int64_t r) {
    const auto i = static_cast<std::size_t>(r);
    if (output.rows[i].seq == 0) prints[i] = print_of(stage, layer, output, r);
  });
  for (std::int64_t r = 0; r < output.n_rows; ++r) {
    const auto i = static_cast<std::size_t>(r);
    if (output.rows[i].seq == 0) record_row(stage, layer, output, r, std::move(prints[i]));
  }
}

bool Recorder::is_reread(Stage stage, std::int32_t position) const {
  return is_slot_stage(stage) && !shifting_ && !step_positions_.contains(position);
}

Fingerprint Recorder::print_of(Stage stage, int layer, const TensorView& output, std::int64_t r) const {
  const RecordKey key{output.rows[static_cast<std::size_t>(r)].position, layer, stage};
  FingerprintOptions wanted;
  if (is_reread(stage, key.position)) {
    Fingerprint print;
    print.hash = row_hash(output.row(r), output.dtype, output.cols(r));
    const auto known = memory_.slots.find(key);
    if (known != memory_.slots.end() && known->second == print.hash) return print;
  }
  const bool whole = detail(key);
  wanted.sample = whole ? options_.sample : 0;
  wanted.sketch = whole;
  return fingerprint(output.row(r), output.dtype, output.cols(r), wanted);
}

void Recorder::not_exposed(Stage stage, int layer) {
  if (!wants(stage, layer)) return;
  for (const std::int32_t position : step_positions_) {
    StageRecord record;
    record.stage = stage;
    record.layer = layer;
    record.position = position;
    record.phase = phase_;
    record.step = step_;
    record.exposure = Exposure::not_exposed;
    capture_.records.push_back(std::move(record));
  }
}

void Recorder::record_row(Stage stage, int layer, const TensorView& output, std::int64_t r, Fingerprint print) {
  const RecordKey key{output.rows[static_cast<std::size_t>(r)].position, layer, stage};
  const bool whole = detail(key);
  const bool reread = is_reread(stage, key.position);
  if (is_slot_stage(stage)) {
    const Hash128 now = print.hash;
    const auto [known, is_new] = memory_.slots.try_emplace(key, now);
    const bool changed = !is_new && known->second != now;
    known->second = now;
    if (reread && !changed) return;  // as it was when last seen: nothing new to say
  }

  StageRecord record;
  record.stage = stage;
  record.layer = layer;
  record.position = key.position;
  if (static_cast<std::size_t>(key.position) < capture_.tokens.size())
    record.token_id = capture_.tokens[static_cast<std::size_t>(key.position)];
  record.phase = phase_;
  record.step = step_;
  record.reread = reread;
  record.dtype = output.dtype;
  record.offset_bytes = output.row(r) - output.data;
  if (const auto op = op_of_stage_.find({layer, stage}); op != op_of_stage_.end()) record.route = name(routes_[op->second]);
  record.print = std::move(print);
  produced_[packed(stage, layer, key.position)] = record.print.hash;
  attach_operands(key, whole, record);
  if (stage == Stage::logits) capture_.logits.push_back(logits_record(output, r, record));
  if (options_.full) {
    FullTensor& full = full_[{layer, stage}];
    if (!reread) {
      keep_whole(full, full.rows[key.position], output, r);
    } else if (!full.rereads.contains(key.position)) {
      keep_whole(full, full.rereads[key.position], output, r);
    }
  }
  capture_.records.push_back(std::move(record));
}

void Recorder::attach_operands(const RecordKey& key, bool whole, StageRecord& record) {
  const auto found = pending_.find(key);
  if (found == pending_.end()) return;
  if (whole || !found->second.empty()) record.operands = std::move(found->second);
  pending_.erase(found);
}

}  // namespace greta
