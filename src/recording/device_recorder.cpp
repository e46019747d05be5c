#include "recording/device_recorder.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "recording/logits_record.h"
#include "trace/fingerprint.h"
#include "trace/fingerprint_parts.h"

namespace greta {
namespace {

/// The op that makes a stage.
OpKind op_of(Stage stage) {
  switch (stage) {
    case Stage::x_in:
      return OpKind::embed;
    case Stage::attn_norm:
    case Stage::q_norm:
    case Stage::k_norm:
    case Stage::attn_post_norm:
    case Stage::ffn_norm:
    case Stage::ffn_post_norm:
    case Stage::final_rms:
      return OpKind::rmsnorm;
    case Stage::q_rope:
    case Stage::k_rope:
      return OpKind::rope;
    case Stage::k_cache:
    case Stage::v_cache:
      return OpKind::kv_write;
    case Stage::attn_scores:
      return OpKind::qk;
    case Stage::attn_probs:
      return OpKind::softmax;
    case Stage::attn_out:
      return OpKind::pv;
    case Stage::x_after_attn:
    case Stage::x_after_mlp:
      return OpKind::add;
    case Stage::ffn_act:
      return OpKind::act_mul;
    default:
      return is_quantised(stage) ? OpKind::quantize : OpKind::matmul;
  }
}

std::uint64_t next_number() {
  static std::atomic<std::uint64_t> next{1};
  return next++;
}

/// What hands over has no route of its own.
bool is_handoff(Stage stage, int layer) {
  return stage == Stage::x_out || stage == Stage::lm_head_in || (stage == Stage::x_in && layer > 0);
}

}  // namespace

DeviceRecorder::DeviceRecorder(Capture capture, RecorderOptions options, gpu::Device& device)
    : number_(next_number()), device_(device), capture_(std::move(capture)), options_(std::move(options)) {
  if (options_.full || options_.kv_journal || options_.after_shift)
    fail("internal error: a recorder on the device was asked for whole rows, a KV journal or a context shift");
  if (options_.stages.empty()) options_.stages.assign(all_stages().begin(), all_stages().end());
  for (const Stage stage : options_.stages) stage_wanted_[static_cast<std::size_t>(stage)] = true;
  layer_wanted_.insert(options_.layers.begin(), options_.layers.end());
}

bool DeviceRecorder::wants(Stage stage, int layer) const {
  return recording_ && stage_wanted_[static_cast<std::size_t>(stage)] &&
         (layer_wanted_.empty() || once_per_token(stage) || layer_wanted_.contains(layer));
}

bool DeviceRecorder::in_detail(Stage stage, int layer, std::int32_t position) const {
  return position >= options_.detail_from || options_.detail_also.contains(RecordKey{position, layer, stage});
}

DeviceRecorder::Group& DeviceRecorder::group() {
  if (used_ == 0) used_ = 1;
  while (groups_.size() < used_) groups_.emplace_back(device_);
  return groups_[used_ - 1];
}

void DeviceRecorder::begin(const Call& call) {
  take_printed();
  mode_ = call.mode;
  step_ = call.step;
  routes_ = call.routes;
  recording_ = step_.phase == Phase::prefill ? options_.prefill : options_.decode;
  for (Group& one : groups_) {
    one.batch.begin();
    one.places.clear();
    one.rows.clear();
    one.samples.clear();
  }
  used_ = 0;
  if (mode_ != Mode::captured) {
    capture_.schedule.push_back(static_cast<std::int32_t>(step_.rows.size()));
    for (const RowId& row : step_.rows) capture_.sequences = std::max(capture_.sequences, row.seq + 1);
    return;
  }
  // As many jobs as a call of these rows can have.
  const std::size_t jobs = step_.rows.size() * kStageCount * static_cast<std::size_t>(capture_.n_layers + 1);
  group().batch.reserve(jobs, call.longest_row);
}

void DeviceRecorder::operator()(Stage stage, int layer, const TensorView& output) {
  capped_ = capped_ || stage == Stage::head_out;
  if (wants(stage, layer)) {
    Group& to = group();
    const OpKind op = stage == Stage::logits && capped_ ? OpKind::softcap : op_of(stage);
    const char* route = is_handoff(stage, layer) ? "" : name(routes_[op]).data();
    for (std::int64_t r = 0; r < output.n_rows; ++r) {
      const RowId row = output.rows[static_cast<std::size_t>(r)];
      if (row.seq != 0) continue;
      const bool detail = in_detail(stage, layer, row.position);
      to.batch.add({stage, layer, static_cast<std::int32_t>(r)}, output.row(r), output.dtype, output.cols(r), detail);
      to.places.push_back({stage, step_.phase, output.dtype, detail, layer, row.position, step_.step, output.cols(r),
                           output.row(r) - output.data, route});
      to.rows.push_back(output.row(r));
    }
  }
  if (stage == Stage::x_out && mode_ == Mode::layer_by_layer) {
    queue(group());
    ++used_;
  }
}

void DeviceRecorder::not_exposed(Stage stage, int layer) {
  if (!wants(stage, layer) || mode_ == Mode::captured) return;
  for (const RowId& row : step_.rows) {
    if (row.seq != 0) continue;
    StageRecord record;
    record.stage = stage;
    record.layer = layer;
    record.position = row.position;
    record.phase = step_.phase;
    record.step = step_.step;
    record.exposure = Exposure::not_exposed;
    capture_.records.push_back(std::move(record));
  }
}

void DeviceRecorder::fetch_samples(Group& group) {
  group.samples.resize(group.places.size());
  for (std::size_t i = 0; i < group.places.size() && options_.sample > 0; ++i) {
    const Place& place = group.places[i];
    if (!place.detail) continue;
    const std::int64_t block = dtype_info(place.dtype).block_elems;
    const std::int64_t n = (std::min(options_.sample, place.count) + block - 1) / block * block;
    group.samples[i].resize(static_cast<std::size_t>(row_bytes(place.dtype, n)));
    device_.download(group.samples[i].data(), group.rows[i], group.samples[i].size(), device_.stream());
  }
}

void DeviceRecorder::queue(Group& group) {
  if (mode_ != Mode::captured) group.batch.commit(device_.stream());
  if (mode_ != Mode::replayed) group.batch.queue(device_.stream());
  if (mode_ == Mode::layer_by_layer) fetch_samples(group);
}

void DeviceRecorder::tapped() { queue(group()); }

void DeviceRecorder::end(const TensorView& logits) {
  if (mode_ != Mode::layer_by_layer) {  // rows are still there
    for (std::size_t g = 0; g < used_; ++g) fetch_samples(groups_[g]);
    if (options_.sample > 0) device_.synchronize(device_.stream());
  }
  for (std::int64_t r = 0; r < logits.n_rows && wants(Stage::logits, capture_.n_layers); ++r) {
    const RowId row = logits.rows[static_cast<std::size_t>(r)];
    const auto* values = logits.row_as<const float>(r);
    if (row.seq == 0) fresh_.push_back({row, step_, {values, values + logits.cols(r)}});
  }
  ended_ = true;
}

void DeviceRecorder::take_printed() {
  if (!std::exchange(ended_, false)) return;
  for (Row& row : std::exchange(fresh_, {})) {
    StageRecord of;
    of.position = row.row.position;
    of.phase = row.step.phase;
    of.step = row.step.step;
    TensorView view;
    view.data = reinterpret_cast<std::byte*>(row.logits.data());
    view.n_rows = 1;
    view.n_cols = static_cast<std::int64_t>(row.logits.size());
    logits_.push_back(logits_record(view, 0, of));
  }
  for (std::size_t g = 0; g < used_; ++g) {
    Group& done = groups_[g];
    const auto sums = done.batch.sums();
    Printed& printed = printed_.emplace_back();
    printed.sums.assign(sums.begin(), sums.end());
    for (std::size_t i = 0; i < done.places.size(); ++i) {
      const auto sketch = done.batch.sketch(i);
      printed.sketches.insert(printed.sketches.end(), sketch.begin(), sketch.end());
    }
    printed.places = std::move(done.places);
    printed.samples = std::move(done.samples);
    done.places.clear();
    done.samples.clear();
  }
}

StageRecord DeviceRecorder::record_of(const Printed& printed, std::size_t i, std::size_t& sketch) const {
  const Place& place = printed.places[i];
  StageRecord record;
  record.stage = place.stage;
  record.layer = place.layer;
  record.position = place.position;
  if (static_cast<std::size_t>(place.position) < capture_.tokens.size())
    record.token_id = capture_.tokens[static_cast<std::size_t>(place.position)];
  record.phase = place.phase;
  record.step = place.step;
  record.dtype = place.dtype;
  record.offset_bytes = place.offset_bytes;
  record.route = place.route;
  std::vector<double> sample, buckets;
  if (!printed.samples.empty() && !printed.samples[i].empty()) {
    const std::int64_t n = std::min(options_.sample, place.count);
    sample = fingerprint(printed.samples[i].data(), place.dtype, n, {.sample = n, .sketch = false, .statistics = false}).sample;
  }
  if (place.detail) {
    const auto first = printed.sketches.begin() + static_cast<std::ptrdiff_t>(sketch);
    buckets.assign(first, first + kSketchWidth);
    sketch += kSketchWidth;
  }
  record.print = finish_fingerprint(printed.sums[i], place.count, std::move(sample), std::move(buckets));
  return record;
}

Capture& DeviceRecorder::capture() {
  take_printed();
  for (const Printed& printed : std::exchange(printed_, {})) {
    std::size_t sketch = 0;
    for (std::size_t i = 0; i < printed.places.size(); ++i) {
      StageRecord record = record_of(printed, i, sketch);
      if (record.stage == Stage::logits)
        for (LogitsRecord& logits : logits_)
          if (logits.position == record.position && logits.step == record.step) {
            logits.hash = record.print.hash;
            logits.token_id = record.token_id;
          }
      capture_.records.push_back(std::move(record));
    }
  }
  capture_.logits.insert(capture_.logits.end(), logits_.begin(), logits_.end());
  logits_.clear();
  return capture_;
}

void DeviceRecorder::forget() {
  take_printed();
  printed_.clear();
  logits_.clear();
}

std::uint64_t DeviceRecorder::version() const {
  return number_ << 32 | (groups_.empty() ? 0 : groups_.front().batch.generation());
}

}  // namespace greta
