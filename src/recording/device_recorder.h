// Collects what a session on a device does: fingerprints are made there, by kernels of the step, and records alone leave it.
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <set>
#include <vector>

#include "ops/gpu/device.h"
#include "ops/gpu/device_probe.h"
#include "ops/gpu/print_batch.h"
#include "recording/recorder.h"
#include "trace/record.h"

namespace greta {

/// Sequence 0 is recorded, as Recorder records it, but for operands, KV slots of earlier positions and whole rows, which a
/// session on a device does not show: RecorderOptions::full, kv_journal and after_shift are refused.
class DeviceRecorder final : public gpu::DeviceProbe {
 public:
  /// `capture` arrives with prompt, arm, tokens and plan filled in. `device` outlives this.
  DeviceRecorder(Capture capture, RecorderOptions options, gpu::Device& device);

  void operator()(Stage stage, int layer, const TensorView& output) override;
  void not_exposed(Stage stage, int layer) override;
  void begin(const Call& call) override;
  void tapped() override;
  void end(const TensorView& logits) override;
  std::uint64_t version() const override;

  /// With a record of every row so far.
  Capture& capture();
  /// Forgets the rows so far.
  void forget();

 private:
  /// Rows of one stage in one step, one after the other among those that a launch fingerprints.
  struct Tap {
    Stage stage = Stage::x_in;
    Phase phase = Phase::prefill;
    std::int32_t layer = 0, step = 0;
    std::size_t first = 0;            // of its rows
    const std::byte* data = nullptr;  // of its first element
    const char* route = "";
  };
  /// A row's slice, as it came from the device.
  struct Slice {
    std::size_t row = 0;
    std::vector<std::byte> elements;
  };
  /// Rows that one launch fingerprints.
  struct Group {
    explicit Group(gpu::Device& device) : batch(device) {}
    gpu::PrintBatch batch;
    std::vector<Tap> taps;
    std::vector<std::int32_t> positions;  // of rows
    std::vector<Slice> slices;            // of rows in detail
  };
  /// What came back of rows: records are made of them when the capture is asked for.
  struct Printed {
    std::vector<Tap> taps;
    std::vector<std::int32_t> positions;
    std::vector<gpu::PrintJob> jobs;
    std::vector<RowSums> sums;
    std::vector<double> sketches;
    std::vector<Slice> slices;
  };
  bool wants(Stage stage, int layer) const;
  bool in_detail(Stage stage, int layer, std::int32_t position) const;
  /// Takes what the last call left on the host.
  void take_printed();
  StageRecord record_of(const Printed& printed, const Tap& tap, std::size_t row, const Slice* slice) const;
  Group& group();
  void queue(Group& group);
  /// Copies the slices of rows in detail to the host; they are there when the stream has been waited for.
  void fetch_slices(Group& group);

  /// Of this recorder among all of the process: graphs of one are not another's.
  std::uint64_t number_;
  gpu::Device& device_;
  Capture capture_;
  RecorderOptions options_;
  std::array<bool, kStageCount> stage_wanted_{};
  std::set<std::int32_t> layer_wanted_;
  bool recording_ = true;
  Mode mode_ = Mode::whole;
  StepInfo step_;
  RouteTable routes_{};
  std::deque<Group> groups_;  // of the step: one, or one a layer
  std::size_t used_ = 0;
  bool ended_ = false;  // the groups hold what came back
  std::vector<Printed> printed_;
  std::vector<LogitsRecord> logits_;  // without hashes
  /// Rows of logits whose records are still to be made.
  struct Row {
    RowId row;
    StepInfo step;
    std::vector<float> logits;
  };
  std::vector<Row> fresh_;
  bool capped_ = false;  // logits come from a cap
};

}  // namespace greta
