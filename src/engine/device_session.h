// A session on a GPU: weights, activations and KV cache stay there; decode replays a captured graph.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <tuple>
#include <vector>

#include "engine/forward.h"
#include "engine/kv_sequence.h"
#include "engine/plan.h"
#include "engine/sampler.h"
#include "engine/workspace.h"
#include "model/model.h"
#include "ops/gpu/bridge_ops.h"
#include "ops/gpu/device_kv.h"
#include "ops/gpu/device_ops.h"
#include "ops/gpu/device_probe.h"

namespace greta {

/// Buffers of a forward pass in device memory, poisoned with NaN bytes.
class DeviceBuffers final : public BufferMemory {
 public:
  /// How long a stage's rows stay: until the buffer is reused, for a layer more, or for the whole forward call.
  enum class Keep : std::uint8_t { no, layer, all };
  explicit DeviceBuffers(gpu::Device& device) : device_(device) {}
  ~DeviceBuffers() override;
  DeviceBuffers(const DeviceBuffers&) = delete;
  DeviceBuffers& operator=(const DeviceBuffers&) = delete;

  void set_keep(Keep keep) { keep_ = keep; }
  std::byte* reserve(std::uint32_t id, Stage stage, int layer, std::size_t bytes) override;
  /// Changes whenever memory that was given out has been freed.
  std::uint64_t version() const { return version_; }
  std::size_t bytes() const { return bytes_; }

 private:
  struct Memory {
    std::byte* data = nullptr;
    std::size_t bytes = 0;
  };
  gpu::Device& device_;
  Keep keep_ = Keep::no;
  std::map<std::tuple<Keep, int, int>, Memory> buffers_;
  std::uint64_t version_ = 0;
  std::size_t bytes_ = 0;
};

struct DeviceSessionOptions {
  int n_sequences = 1;
  int capacity = 0;     // positions of a sequence
  int most_rows = 512;  // of a forward call
  bool graphs = true;   // calls of few rows are captured and replayed
};

class DeviceSession {
 public:
  /// `model` and `device` outlive the session. Throws Error where plan or memory does not do: with the bytes that the cache
  /// takes and those that are free.
  DeviceSession(const Model& model, gpu::DeviceModel& device, Plan plan, const DeviceSessionOptions& options);

  /// One forward call; logits of batch.logit_rows (consecutive rows) on the host, [n, vocab], valid until the next. Throws
  /// Error where a token id is outside the vocabulary, rows are empty, too many, or attend to positions that hold nothing.
  TensorView step(Phase phase, const Batch& batch, gpu::DeviceProbe* probe);
  /// The same for one row, whose logits stay on the device: the token that sample_token() (engine/sampler.h) draws of them with
  /// `unit`; -1 where all logits are NaN.
  std::int32_t decode_sampled(std::int32_t token, std::int32_t position, const SamplerOptions& how, double unit,
                              gpu::DeviceProbe* probe);

  const std::vector<std::int32_t>& schedule() const { return schedule_; }
  gpu::Device& device() { return device_; }
  gpu::DeviceOps& ops() { return ops_; }
  /// Graphs that were replayed so far.
  int replays() const { return replays_; }
  /// Bytes of activations on the device so far.
  std::size_t buffer_bytes() const { return buffers_.bytes(); }

 private:
  enum class Output : std::uint8_t { logits, id };
  struct Shape {
    std::int32_t n_rows = 0, most_keys = 0;
    std::vector<std::int32_t> logit_rows;
    Phase phase = Phase::prefill;  // probes may want one alone
    bool traced = false;
    Output output = Output::logits;
    auto operator<=>(const Shape&) const = default;
  };
  struct Captured {
    std::unique_ptr<gpu::Graph> graph;
    std::unique_ptr<gpu::Graph> prints;  // what the probe queued; null without one
    TensorView logits;
    std::uint64_t buffers = 0, scratch = 0, probe = 0;  // versions
  };

  void check(const Batch& batch) const;
  /// The rows of logits on the host, as the caller of `batch` knows them.
  TensorView fetch(TensorView logits, const Batch& batch, std::vector<RowId>& rows);
  TensorView compute(Phase phase, const Batch& batch, gpu::DeviceProbe* probe, Output output);
  TensorView run_eagerly(const StepInfo& step, const Batch& batch, gpu::DeviceProbe* probe, Output output);
  TensorView replay(Captured& captured, const StepInfo& step, const Batch& batch, gpu::DeviceProbe* probe);
  Captured capture(const StepInfo& step, const Batch& batch, gpu::DeviceProbe* probe, const Shape& shape);
  void queue_output(const TensorView& logits, Output output);
  /// Rows as a graph is laid out for: each at the last position of its bucket.
  std::vector<RowId> bucket_rows(std::span<const RowId> rows, std::int32_t most_keys) const;

  const Model& model_;
  gpu::Device& device_;
  Plan plan_;
  DeviceSessionOptions options_;
  gpu::DeviceKv kv_;
  DeviceBuffers buffers_;
  gpu::DeviceOps ops_;
  Workspace workspace_;
  KvHeld held_;
  std::vector<std::int32_t> schedule_;
  std::map<Shape, Captured> graphs_;
  int replays_ = 0;
  std::shared_ptr<std::byte> logits_host_;  // one row, page-locked
  std::vector<std::byte> many_logits_;      // more of them
  SamplerOptions sampling_;                 // of the graphs that draw
  /// The random number (8 bytes), then the id; device memory also has the kernel's scratch.
  std::byte* draw_device_ = nullptr;
  std::byte* draw_host_ = nullptr;
  std::shared_ptr<void> draws_;  // frees both
};

}  // namespace greta
