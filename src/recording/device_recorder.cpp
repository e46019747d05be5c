#include "recording/device_recorder.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "ops/stage_op.h"
#include "recording/logits_record.h"
#include "trace/fingerprint.h"
#include "trace/fingerprint_parts.h"

namespace greta {
namespace {

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
    one.taps.clear();
    one.positions.clear();
    one.slices.clear();
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
    const char* route = is_handoff(stage, layer) ? "" : name(routes_[op_of(stage, capped_)]).data();
    to.taps.push_back({stage, step_.phase, layer, step_.step, to.positions.size(), output.data, route});
    for (std::int64_t r = 0; r < output.n_rows; ++r) {
      const RowId row = output.rows[static_cast<std::size_t>(r)];
      if (row.seq != 0) continue;
      to.batch.add({stage, layer, {}}, output.row(r), output.dtype, output.cols(r), in_detail(stage, layer, row.position));
      to.positions.push_back(row.position);
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

void DeviceRecorder::fetch_slices(Group& group) {
  if (options_.sample == 0) return;
  const auto jobs = group.batch.jobs();
  for (std::size_t i = 0; i < jobs.size(); ++i) {
    if (jobs[i].sketch < 0) continue;
    const std::int64_t block = dtype_info(jobs[i].dtype).block_elems;
    const std::int64_t n = (std::min(options_.sample, jobs[i].count) + block - 1) / block * block;
    Slice& slice = group.slices.emplace_back();
    slice.row = i;
    slice.elements.resize(static_cast<std::size_t>(row_bytes(jobs[i].dtype, n)));
    device_.download(slice.elements.data(), jobs[i].row, slice.elements.size(), device_.stream());
  }
}

void DeviceRecorder::queue(Group& group) {
  const gpu::Stream stream = device_.stream();
  if (mode_ != Mode::captured) group.batch.commit(stream);
  if (mode_ == Mode::layer_by_layer) {
    group.batch.queue(stream, device_.side_stream());
    fetch_slices(group);
  } else if (mode_ != Mode::replayed) {
    group.batch.queue(stream);
  }
}

void DeviceRecorder::tapped() { queue(group()); }

void DeviceRecorder::end(const TensorView& logits) {
  if (mode_ == Mode::layer_by_layer) {
    device_.synchronize(device_.side_stream());
  } else {  // rows are still there
    for (std::size_t g = 0; g < used_; ++g) fetch_slices(groups_[g]);
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
    const auto jobs = done.batch.jobs();
    Printed& printed = printed_.emplace_back();
    printed.sums.assign(sums.begin(), sums.end());
    printed.jobs.assign(jobs.begin(), jobs.end());
    for (std::size_t i = 0; i < jobs.size(); ++i) {
      const auto sketch = done.batch.sketch(i);
      printed.sketches.insert(printed.sketches.end(), sketch.begin(), sketch.end());
    }
    printed.taps = std::move(done.taps);
    printed.positions = std::move(done.positions);
    printed.slices = std::move(done.slices);
    done.taps.clear();
    done.positions.clear();
    done.slices.clear();
  }
}

StageRecord DeviceRecorder::record_of(const Printed& printed, const Tap& tap, std::size_t row, const Slice* slice) const {
  const gpu::PrintJob& job = printed.jobs[row];
  StageRecord record;
  record.stage = tap.stage;
  record.layer = tap.layer;
  record.position = printed.positions[row];
  if (static_cast<std::size_t>(record.position) < capture_.tokens.size())
    record.token_id = capture_.tokens[static_cast<std::size_t>(record.position)];
  record.phase = tap.phase;
  record.step = tap.step;
  record.dtype = job.dtype;
  record.offset_bytes = job.row - tap.data;
  record.route = tap.route;
  std::vector<double> sample, buckets;
  if (slice != nullptr) {
    const std::int64_t n = std::min(options_.sample, job.count);
    sample = fingerprint(slice->elements.data(), job.dtype, n, {.sample = n, .sketch = false, .statistics = false}).sample;
  }
  if (job.sketch >= 0) {
    const auto first = printed.sketches.begin() + std::ptrdiff_t{job.sketch} * kSketchWidth;
    buckets.assign(first, first + kSketchWidth);
  }
  record.print = finish_fingerprint(printed.sums[row], job.count, std::move(sample), std::move(buckets));
  return record;
}

Capture& DeviceRecorder::capture() {
  take_printed();
  for (const Printed& printed : std::exchange(printed_, {})) {
    auto slice = printed.slices.begin();
    auto tap = printed.taps.begin();
    for (std::size_t i = 0; i < printed.jobs.size(); ++i) {
      while (tap + 1 != printed.taps.end() && (tap + 1)->first <= i) ++tap;
      const bool sliced = slice != printed.slices.end() && slice->row == i;
      StageRecord record = record_of(printed, *tap, i, sliced ? &*slice : nullptr);
      if (sliced) ++slice;
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
  ended_ = false;
  fresh_.clear();
  printed_.clear();
  logits_.clear();
}

std::uint64_t DeviceRecorder::version() const {
  return number_ << 32 | (groups_.empty() ? 0 : groups_.front().batch.generation());
}

}  // namespace greta
