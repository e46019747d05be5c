#include "cli/aligned_run.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "core/quote.h"
#include "engine/sampler.h"

namespace greta::cli {
namespace {

/// Memory that snapshots of arm B may take; beyond it a control decodes from the first one on.
constexpr std::size_t kSnapshotBytes = std::size_t{1} << 30;
constexpr std::int32_t kNoLogits = std::numeric_limits<std::int32_t>::max();

using HashByKey = std::map<RecordKey, Hash128>;

HashByKey hashes(const Capture& capture) {
  HashByKey by_key;
  for (const StageRecord& record : capture.records)
    if (record.exposure == Exposure::exposed && !record.reread)
      by_key[{record.position, record.layer, record.stage}] = record.print.hash;
  return by_key;
}

/// Rows before position `end` of `b` that are not bit-equal to `a`'s: at most `most`, the earliest (layer, stage, position) of
/// them.
std::set<RecordKey> differing_prefix(const Capture& a, const Capture& b, std::int32_t end, std::size_t most) {
  const HashByKey by_key = hashes(a);
  std::set<std::tuple<std::int32_t, Stage, std::int32_t>> ordered;
  for (const StageRecord& record : b.records) {
    if (record.position >= end) continue;
    const auto met = by_key.find({record.position, record.layer, record.stage});
    if (met != by_key.end() && met->second != record.print.hash) ordered.insert({record.layer, record.stage, record.position});
  }
  std::set<RecordKey> keys;
  for (const auto& [layer, stage, position] : ordered) {
    if (keys.size() == most) break;
    keys.insert({position, layer, stage});
  }
  return keys;
}

}  // namespace

FaultSpec control_fault(const isolate::ControlSpec& spec) {
  const std::string how = spec.delta ? fmt::format("add={}", *spec.delta) : fmt::format("ulp={}", spec.ulps.value_or(1));
  return parse_fault(fmt::format("perturb@decode:layer={}:stage={}:position={}:index={}:{}", spec.layer, name(spec.stage),
                                 spec.position, spec.index, how));
}

void add_counts(std::vector<std::int64_t>& sums, const std::vector<std::int64_t>& counts) {
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += counts[i];
}

AlignedRun::AlignedRun(const RunContext& context, std::string prompt_id, std::vector<std::int32_t> tokens)
    : context_(context),
      prompt_id_(std::move(prompt_id)),
      tokens_(std::move(tokens)),
      n_prompt_(static_cast<std::int32_t>(tokens_.size())) {
  if (!context.experiment.shift) return;
  const isolate::ContextShift& shift = *context.experiment.shift;
  if (n_prompt_ < shift.fewest_tokens())
    fail("prompt {}: {} tokens are too few for a context shift of {}, which needs {}; use a longer prompt", quote(prompt_id_),
         n_prompt_, shift.text(), shift.fewest_tokens());
  const int keep = shift.keep, discard = shift.discard;
  prefix_.assign(tokens_.begin(), tokens_.begin() + std::max(n_prompt_ / 2, keep + discard + 1));
  tokens_.erase(tokens_.begin() + keep, tokens_.begin() + keep + discard);
  n_prompt_ -= discard;
  first_ = static_cast<std::int32_t>(prefix_.size()) - discard;
}

/// Position of arm B's first decode step: the prompt's last token (E1), the first row after a context shift, or the first
/// generated token (E0).
std::int32_t AlignedRun::decode_start() const {
  if (!prefix_.empty()) return first_;
  return context_.experiment.exp == isolate::ExpMode::aligned ? n_prompt_ - 1 : n_prompt_;
}

/// Arm A has logits of the prompt's last row, and of every row that arm B decodes.
std::int32_t AlignedRun::first_logits() const { return std::min(decode_start(), n_prompt_ - 1); }

Capture AlignedRun::header(char arm) const {
  Capture capture;
  capture.prompt_id = prompt_id_;
  capture.exp = isolate::name(context_.experiment.exp);
  capture.arm = arm;
  capture.tokens = tokens_;
  return capture;
}

RecorderOptions AlignedRun::options(const std::set<RecordKey>& also) const {
  RecorderOptions options;
  options.stages = context_.experiment.stages;
  if (!context_.experiment.layers.all)
    for (const int layer : context_.experiment.layers.resolve(context_.model_a.config.n_layers))
      options.layers.push_back(layer);
  options.sample = context_.experiment.sample;
  options.detail_from = n_prompt_ - 1;
  options.detail_also = also;
  options.full = context_.full;
  options.after_shift = !prefix_.empty();
  if (whole_layers_) {
    options.stages.clear();
    options.layers = *whole_layers_;
    options.sample = 0;
    options.detail_from = std::numeric_limits<std::int32_t>::max();
    options.full = true;
  }
  return options;
}

std::vector<std::int32_t> AlignedRun::declared_schedule(const ArmSpec& spec, std::int32_t prefill_end,
                                                        std::int32_t decodes) const {
  std::vector<std::int32_t> schedule;
  for (const std::int32_t rows : {static_cast<std::int32_t>(prefix_.size()), prefill_end - first_}) {
    const std::int32_t size = spec.chunk > 0 ? spec.chunk : rows;
    for (std::int32_t begin = 0; begin < rows; begin += size) schedule.push_back(std::min(size, rows - begin) * spec.batch);
  }
  schedule.insert(schedule.end(), static_cast<std::size_t>(decodes), spec.batch);
  return schedule;
}

/// Tokens of positions first_ .. end-1.
std::span<const std::int32_t> AlignedRun::rows_until(std::int32_t end) const {
  return std::span<const std::int32_t>(tokens_).subspan(static_cast<std::size_t>(first_),
                                                        static_cast<std::size_t>(end - first_));
}

std::unique_ptr<Arm> AlignedRun::start(const Model& model, const ArmSpec& spec, std::int32_t capacity,
                                       std::optional<Capture> header, const std::set<RecordKey>& also, ArmPath path) const {
  capacity = std::max(capacity, static_cast<std::int32_t>(prefix_.size()));
  auto arm = std::make_unique<Arm>(model, spec, capacity, n_prompt_, context_.weights, path);
  if (header) arm->record(std::move(*header), options(also));
  if (!prefix_.empty()) {
    arm->prefill(prefix_, 0, kNoLogits, {});
    arm->context_shift(context_.experiment.shift->keep, context_.experiment.shift->discard);
  }
  if (!right_.empty()) arm->substitute(right_, tokens_);  // from the first compared row on
  return arm;
}

void AlignedRun::continue_greedily() {
  const bool aligned = context_.experiment.exp == isolate::ExpMode::aligned;
  const std::int32_t wanted = aligned ? context_.experiment.span - 1 : context_.experiment.span;
  if (wanted == 0) return;
  const RunContext& c = context_;
  const ArmSpec& spec = aligned ? c.arm_a : c.arm_b;
  const auto arm = start(aligned ? c.model_a : c.model_b, spec, n_prompt_ + wanted, std::nullopt, {},
                         prefix_.empty() ? fastest_path(spec) : ArmPath::observed);
  std::vector<double> logits;
  arm->prefill(rows_until(n_prompt_), first_, n_prompt_ - 1,
               [&](std::int32_t, const TensorView& view, std::int64_t r) { logits = row_values(view, r); });
  for (std::int32_t i = 0; i < wanted; ++i) {
    const std::int32_t next = std::max(argmax(logits), 0);  // all NaN: any token, the rows will say so
    tokens_.push_back(next);
    if (i + 1 < wanted) logits = arm->decode(next, n_prompt_ + i);
  }
}

Arm::OnLogits AlignedRun::keep_logits(isolate::LogitsRows& rows, std::int32_t begin) const {
  if (!context_.whole_logits || whole_layers_) return {};
  return [&rows, begin](std::int32_t position, const TensorView& view, std::int64_t r) {
    if (position >= begin) rows[position] = row_values(view, r);
  };
}

Capture AlignedRun::run_a(const std::set<RecordKey>& also) {
  const RunContext& c = context_;
  const auto n_all = static_cast<std::int32_t>(tokens_.size());
  const auto exact = start(c.model_a, c.arm_a, n_prompt_, header('a'), also);
  exact->prefill(rows_until(n_prompt_), first_, first_logits(), keep_logits(logits_a_, 0));
  Capture capture = exact->take_capture();
  not_substituted_ += exact->not_substituted();
  full_a_ = exact->full_tensors();
  effects_a_ = exact->fault_effects();
  if (c.experiment.exp != isolate::ExpMode::aligned || n_all == n_prompt_) return capture;

  // The span adds: rows from n on come from one prefill of all n+S-1 rows, those before stay the exact ones.
  const auto spanned = start(c.model_a, c.arm_a, n_all, header('a'), also);
  spanned->prefill(rows_until(n_all), first_, first_logits(), keep_logits(logits_a_, n_prompt_));
  add_counts(effects_a_, spanned->fault_effects());
  Capture longer = spanned->take_capture();
  not_substituted_ += spanned->not_substituted();
  capture.fault_effects = std::accumulate(effects_a_.begin(), effects_a_.end(), std::int64_t{0});
  const HashByKey exact_rows = hashes(capture);
  span_differs_ = 0;
  for (StageRecord& record : longer.records) {
    if (record.position >= n_prompt_) {
      capture.records.push_back(std::move(record));
    } else if (const auto met = exact_rows.find({record.position, record.layer, record.stage});
               met != exact_rows.end() && met->second != record.print.hash) {
      ++span_differs_;
    }
  }
  for (const LogitsRecord& logits : longer.logits)
    if (logits.position >= n_prompt_) capture.logits.push_back(logits);
  for (const auto& [place, tensor] : spanned->full_tensors())
    for (const auto& [position, bytes] : tensor.rows)
      if (position >= n_prompt_) full_a_[place].rows[position] = bytes;
  return capture;
}

Capture AlignedRun::run_b(const std::set<RecordKey>& also) {
  const RunContext& c = context_;
  const auto n_all = static_cast<std::int32_t>(tokens_.size());
  const std::int32_t first_decode = decode_start();
  snapshots_.clear();
  arm_b_ = start(c.model_b, c.arm_b, n_all, header('b'), also);
  const std::int32_t logits_from = c.experiment.exp == isolate::ExpMode::aligned ? kNoLogits : n_prompt_ - 1;
  arm_b_->prefill(rows_until(first_decode), first_, logits_from, keep_logits(logits_b_, 0));
  const ModelConfig& config = c.model_b.config;
  const std::size_t cache =
      KvCache::bytes(c.arm_b.plan.kv, config.n_layers, c.arm_b.batch, n_all, std::int64_t{config.n_kv_heads} * config.head_dim);
  for (std::int32_t position = first_decode; position < n_all; ++position) {
    if (position == first_decode || cache * (snapshots_.size() + 1) <= kSnapshotBytes)
      snapshots_.emplace(position, arm_b_->snapshot());
    std::vector<double> logits = arm_b_->decode(tokens_[static_cast<std::size_t>(position)], position);
    if (c.whole_logits && !whole_layers_) logits_b_[position] = std::move(logits);
  }
  full_b_ = arm_b_->full_tensors();
  effects_b_ = arm_b_->fault_effects();
  not_substituted_ += arm_b_->not_substituted();
  return arm_b_->take_capture();
}

isolate::PromptPair AlignedRun::run() {
  continue_greedily();
  isolate::PromptPair pair;
  pair.a = run_a({});
  pair.b = run_b({});
  if (const auto differing = differing_prefix(pair.a, pair.b, n_prompt_ - 1, context_.detailed_rows); !differing.empty()) {
    pair.a = run_a(differing);
    pair.b = run_b(differing);
  }
  const auto n_all = static_cast<std::int32_t>(tokens_.size());
  pair.declared_schedule_a = declared_schedule(context_.arm_a, n_prompt_, 0);
  pair.declared_schedule_b = declared_schedule(context_.arm_b, decode_start(), n_all - decode_start());
  pair.n_positions = context_.experiment.exp == isolate::ExpMode::aligned ? n_all : n_prompt_;
  return pair;
}

WholeRun AlignedRun::run_whole(char arm, const std::vector<std::int32_t>& layers, const RightRows& right) {
  whole_layers_ = layers;
  if (layers.front() > 0) whole_layers_->push_back(layers.front() - 1);
  FullTensors& full = arm == 'a' ? full_a_ : full_b_;
  FullTensors kept = std::exchange(full, {});
  right_ = right;
  not_substituted_ = 0;
  WholeRun run;
  run.capture = arm == 'a' ? run_a({}) : run_b({});
  run.tensors = std::exchange(full, std::move(kept));
  run.not_substituted = not_substituted_;
  whole_layers_.reset();
  right_.clear();
  return run;
}

/// Arm B's step at `position` from the nearest snapshot, with `faults` beside the arm's own.
Capture AlignedRun::step_again(std::int32_t position, RecorderOptions recorded, const std::vector<FaultSpec>& faults) {
  auto nearest = snapshots_.upper_bound(position);
  if (nearest == snapshots_.begin()) fail("internal error: control at position {} lies before the first decode step", position);
  --nearest;
  recorded.detail_from = position;
  recorded.after_shift = false;  // the snapshot lies after the shift
  arm_b_->record(header('b'), std::move(recorded));
  arm_b_->restore(nearest->second, faults);
  for (std::int32_t p = nearest->first; p <= position; ++p) arm_b_->decode(tokens_[static_cast<std::size_t>(p)], p);
  Capture capture = arm_b_->take_capture();
  const std::int32_t step = nearest->second.place.steps + position - nearest->first;
  std::erase_if(capture.records, [&](const StageRecord& record) { return record.step != step; });
  std::erase_if(capture.logits, [&](const LogitsRecord& logits) { return logits.step != step; });
  return capture;
}

Capture AlignedRun::control(const isolate::ControlSpec& spec) {
  RecorderOptions recorded = options({});
  recorded.full = false;
  return step_again(spec.position, std::move(recorded), {control_fault(spec)});
}

WholeRun AlignedRun::step_whole(std::int32_t position, const std::vector<std::int32_t>& layers,
                                const std::vector<FaultSpec>& faults) {
  RecorderOptions recorded;
  recorded.layers = layers;
  recorded.sample = 0;
  recorded.full = true;
  WholeRun run;
  run.capture = step_again(position, std::move(recorded), faults);
  run.tensors = arm_b_->full_tensors();
  for (const std::int32_t layer : layers) {
    for (const auto& [part, stage] : {std::pair(KvPart::k, Stage::k_cache), std::pair(KvPart::v, Stage::v_cache)}) {
      const auto slots = run.tensors.find({layer, stage});
      for (std::int32_t p = 0; slots != run.tensors.end() && p < position; ++p)
        keep_whole(slots->second, slots->second.rows[p], arm_b_->kv_slot(part, layer, p), 0);
    }
  }
  return run;
}

}  // namespace greta::cli
