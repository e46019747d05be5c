#include "cli/aligned_run.h"

#include <algorithm>
#include <limits>
#include <map>
#include <numeric>
#include <tuple>
#include <utility>

#include "core/error.h"
#include "engine/sampler.h"

namespace greta::cli {
namespace {

/// Memory that snapshots of arm B may take; beyond it a control decodes from the first one on.
constexpr std::size_t kSnapshotBytes = std::size_t{1} << 30;
/// Rows of the prefix that keep their slices where they differ: the earliest in the order of data.
constexpr std::size_t kMostDifferingRows = 512;
constexpr std::int32_t kNoLogits = std::numeric_limits<std::int32_t>::max();

using HashByKey = std::map<RecordKey, Hash128>;

HashByKey hashes(const Capture& capture) {
  HashByKey by_key;
  for (const StageRecord& record : capture.records)
    if (record.exposure == Exposure::exposed && !record.reread)
      by_key[{record.position, record.layer, record.stage}] = record.print.hash;
  return by_key;
}

/// Rows before position `end` of `b` that are not bit-equal to `a`'s, the earliest (layer, stage, position) first.
std::set<RecordKey> differing_prefix(const Capture& a, const Capture& b, std::int32_t end) {
  const HashByKey by_key = hashes(a);
  std::set<std::tuple<std::int32_t, Stage, std::int32_t>> ordered;
  for (const StageRecord& record : b.records) {
    if (record.position >= end) continue;
    const auto met = by_key.find({record.position, record.layer, record.stage});
    if (met != by_key.end() && met->second != record.print.hash) ordered.insert({record.layer, record.stage, record.position});
  }
  std::set<RecordKey> keys;
  for (const auto& [layer, stage, position] : ordered) {
    if (keys.size() == kMostDifferingRows) break;
    keys.insert({position, layer, stage});
  }
  return keys;
}

}  // namespace

void add_counts(std::vector<std::int64_t>& sums, const std::vector<std::int64_t>& counts) {
  for (std::size_t i = 0; i < sums.size(); ++i) sums[i] += counts[i];
}

AlignedRun::AlignedRun(const RunContext& context, std::string prompt_id, std::vector<std::int32_t> tokens)
    : context_(context),
      prompt_id_(std::move(prompt_id)),
      tokens_(std::move(tokens)),
      n_prompt_(static_cast<std::int32_t>(tokens_.size())) {}

/// Position of decode0: the prompt's last token (E1) or the first generated one (E0).
std::int32_t AlignedRun::decode_start() const {
  return context_.experiment.exp == isolate::ExpMode::aligned ? n_prompt_ - 1 : n_prompt_;
}

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
    for (const int layer : context_.experiment.layers.resolve(context_.model_a.config.n_layers)) options.layers.push_back(layer);
  options.sample = context_.experiment.sample;
  options.detail_from = n_prompt_ - 1;
  options.detail_also = also;
  options.full = context_.full;
  return options;
}

std::vector<std::int32_t> AlignedRun::declared_schedule(std::int32_t rows, std::int32_t chunk, std::int32_t decodes) const {
  std::vector<std::int32_t> schedule;
  const std::int32_t size = chunk > 0 ? chunk : rows;
  for (std::int32_t begin = 0; begin < rows; begin += size) schedule.push_back(std::min(size, rows - begin));
  schedule.insert(schedule.end(), static_cast<std::size_t>(decodes), 1);
  return schedule;
}

void AlignedRun::continue_greedily() {
  const bool aligned = context_.experiment.exp == isolate::ExpMode::aligned;
  const std::int32_t wanted = aligned ? context_.experiment.span - 1 : context_.experiment.span;
  if (wanted == 0) return;
  const RunContext& c = context_;
  Arm arm(aligned ? c.model_a : c.model_b, aligned ? c.arm_a : c.arm_b, n_prompt_ + wanted, n_prompt_, c.weights);
  std::vector<double> logits;
  arm.prefill(tokens_, 0, n_prompt_ - 1, [&](std::int32_t, const TensorView& view, std::int64_t r) { logits = row_values(view, r); });
  for (std::int32_t i = 0; i < wanted; ++i) {
    const std::int32_t next = std::max(argmax(logits), 0);  // all NaN: any token, the rows will say so
    tokens_.push_back(next);
    if (i + 1 < wanted) logits = arm.decode(next, n_prompt_ + i);
  }
}

Capture AlignedRun::run_a(const std::set<RecordKey>& also) {
  const RunContext& c = context_;
  const auto n_all = static_cast<std::int32_t>(tokens_.size());
  const std::span<const std::int32_t> all = tokens_;
  Arm exact(c.model_a, c.arm_a, n_prompt_, n_prompt_, c.weights);
  exact.record(header('a'), options(also));
  exact.prefill(all.first(static_cast<std::size_t>(n_prompt_)), 0, n_prompt_ - 1, {});
  Capture capture = exact.take_capture();
  full_a_ = exact.full_tensors();
  effects_a_ = exact.fault_effects();
  if (c.experiment.exp != isolate::ExpMode::aligned || n_all == n_prompt_) return capture;

  // The span adds: rows from n on come from one prefill of all n+S-1 rows, those before stay the exact ones.
  Arm spanned(c.model_a, c.arm_a, n_all, n_prompt_, c.weights);
  spanned.record(header('a'), options(also));
  spanned.prefill(all, 0, n_prompt_ - 1, {});
  add_counts(effects_a_, spanned.fault_effects());
  Capture longer = spanned.take_capture();
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
  for (const auto& [place, tensor] : spanned.full_tensors())
    for (const auto& [position, bytes] : tensor.rows)
      if (position >= n_prompt_) full_a_[place].rows[position] = bytes;
  return capture;
}

Capture AlignedRun::run_b(const std::set<RecordKey>& also) {
  const RunContext& c = context_;
  const auto n_all = static_cast<std::int32_t>(tokens_.size());
  const std::int32_t start = decode_start();
  snapshots_.clear();
  arm_b_ = std::make_unique<Arm>(c.model_b, c.arm_b, n_all, n_prompt_, c.weights);
  arm_b_->record(header('b'), options(also));
  const std::int32_t logits_from = c.experiment.exp == isolate::ExpMode::aligned ? kNoLogits : n_prompt_ - 1;
  arm_b_->prefill(std::span<const std::int32_t>(tokens_).first(static_cast<std::size_t>(start)), 0, logits_from, {});
  const ModelConfig& config = c.model_b.config;
  const std::size_t cache = KvCache::bytes(c.arm_b.plan.kv, config.n_layers, 1, n_all, std::int64_t{config.n_kv_heads} * config.head_dim);
  for (std::int32_t position = start; position < n_all; ++position) {
    if (position == start || cache * (snapshots_.size() + 1) <= kSnapshotBytes)
      snapshots_.emplace(position, arm_b_->snapshot());
    arm_b_->decode(tokens_[static_cast<std::size_t>(position)], position);
  }
  full_b_ = arm_b_->full_tensors();
  effects_b_ = arm_b_->fault_effects();
  return arm_b_->take_capture();
}

isolate::PromptPair AlignedRun::run() {
  continue_greedily();
  isolate::PromptPair pair;
  pair.a = run_a({});
  pair.b = run_b({});
  if (const auto differing = differing_prefix(pair.a, pair.b, n_prompt_ - 1); !differing.empty()) {
    pair.a = run_a(differing);
    pair.b = run_b(differing);
  }
  const auto n_all = static_cast<std::int32_t>(tokens_.size());
  pair.declared_schedule_a = declared_schedule(n_prompt_, context_.arm_a.chunk, 0);
  pair.declared_schedule_b = declared_schedule(decode_start(), context_.arm_b.chunk, n_all - decode_start());
  pair.n_positions = context_.experiment.exp == isolate::ExpMode::aligned ? n_all : n_prompt_;
  return pair;
}

Capture AlignedRun::control(const isolate::ControlSpec& spec) {
  const std::string how = spec.delta ? fmt::format("add={}", *spec.delta) : fmt::format("ulp={}", spec.ulps.value_or(1));
  const FaultSpec fault = parse_fault(fmt::format("perturb@decode:layer={}:stage={}:position={}:index={}:{}", spec.layer,
                                                  name(spec.stage), spec.position, spec.index, how));

  auto nearest = snapshots_.upper_bound(spec.position);
  if (nearest == snapshots_.begin())
    fail("internal error: control at position {} lies before the first decode step", spec.position);
  --nearest;
  RecorderOptions recorded = options({});
  recorded.detail_from = spec.position;
  recorded.full = false;
  arm_b_->record(header('b'), recorded);
  arm_b_->restore(nearest->second, {fault});
  for (std::int32_t position = nearest->first; position <= spec.position; ++position)
    arm_b_->decode(tokens_[static_cast<std::size_t>(position)], position);
  Capture capture = arm_b_->take_capture();
  const std::int32_t step = nearest->second.steps + spec.position - nearest->first;
  std::erase_if(capture.records, [&](const StageRecord& record) { return record.step != step; });
  std::erase_if(capture.logits, [&](const LogitsRecord& logits) { return logits.step != step; });
  return capture;
}

}  // namespace greta::cli
