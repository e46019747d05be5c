#include "engine/device_session.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "core/error.h"

namespace greta {
namespace {

/// Rows of a call that is worth a graph: launches then take longer than kernels.
constexpr std::size_t kFewRows = 16;
/// Bytes of a random number and the id drawn with it, and where the id is.
constexpr std::size_t kDrawBytes = 256, kDrawnAt = 16;
/// Keys of the smallest bucket.
constexpr std::int32_t kFewestKeys = 128;

/// Ops that queue nothing as long as it lives.
class DryRun {
 public:
  explicit DryRun(gpu::DeviceOps& ops) : ops_(ops) { ops_.set_dry(true); }
  ~DryRun() { ops_.set_dry(false); }
  DryRun(const DryRun&) = delete;
  DryRun& operator=(const DryRun&) = delete;

 private:
  gpu::DeviceOps& ops_;
};

/// What `work` queues, as a graph. An error ends the capture too.
template <class Work>
std::unique_ptr<gpu::Graph> captured_by(gpu::Device& device, const Work& work) {
  device.begin_capture();
  try {
    work();
  } catch (...) {
    try {
      (void)device.end_capture();
    } catch (const Error&) {  // the first error is the one to tell
    }
    throw;
  }
  return device.end_capture();
}

gpu::DeviceKv::Shape kv_shape(const Model& model, const Plan& plan, const DeviceSessionOptions& options) {
  return {plan.kv, model.config.n_layers, options.n_sequences, options.capacity,
          std::int64_t{model.config.n_kv_heads} * model.config.head_dim};
}

gpu::Device& with_memory(gpu::Device& device, const gpu::DeviceKv::Shape& shape) {
  const std::size_t needed = shape.bytes(), free = device.free_memory();
  if (needed > free)
    fail("{} {}: a KV cache of {} positions takes {} MiB and {} MiB are free; use a smaller --context or --kv f16",
         device.info().backend, device.info().index, shape.capacity, needed >> 20, free >> 20);
  return device;
}

}  // namespace

DeviceBuffers::~DeviceBuffers() {
  for (auto& [key, memory] : buffers_) device_.release(memory.data);
}

std::byte* DeviceBuffers::reserve(std::uint32_t id, Stage stage, int layer, std::size_t bytes) {
  const bool kept = keep_ != Keep::no;
  const int place = !kept ? static_cast<int>(id) : static_cast<int>(stage);
  const int which = keep_ == Keep::all ? layer : keep_ == Keep::layer ? layer % 2 : 0;
  Memory& memory = buffers_[{keep_, place, which}];
  if (bytes <= memory.bytes) return memory.data;
  if (memory.data != nullptr) {
    device_.synchronize(device_.stream());
    device_.release(memory.data);
    bytes_ -= memory.bytes;
    memory = {};
    ++version_;
  }
  memory = {device_.allocate(bytes, fmt::format("activations of {}", name(stage))), bytes};
  bytes_ += bytes;
  device_.fill(memory.data, 0xff, bytes, device_.stream());
  return memory.data;
}

DeviceSession::DeviceSession(const Model& model, gpu::DeviceModel& device, Plan plan, const DeviceSessionOptions& options)
    : model_(model),
      device_(with_memory(*device.device, kv_shape(model, plan, options))),
      plan_(std::move(plan)),
      options_(options),
      kv_(device_, kv_shape(model, plan_, options)),
      buffers_(device_),
      ops_(device, kv_, options.most_rows),
      workspace_(&buffers_) {
  draw_device_ = device_.allocate(kDrawBytes + device_.kernels().sample_scratch(model.config.vocab_size), "the drawn token");
  draws_ = std::shared_ptr<void>(nullptr, [&on = device_, &d = draw_device_, &h = draw_host_](void*) {
    on.release(d);
    if (h != nullptr) on.release_host(h);
  });
  draw_host_ = device_.allocate_host(kDrawBytes, "the drawn token");
  logits_host_ = std::shared_ptr<std::byte>(
      device_.allocate_host(static_cast<std::size_t>(model.config.vocab_size) * sizeof(float), "a row of logits"),
      [&on = device_](std::byte* memory) { on.release_host(memory); });
}

void DeviceSession::check(const Batch& batch) const {
  if (batch.tokens.empty() || batch.tokens.size() != batch.rows.size())
    fail("forward call with {} tokens for {} rows; give one token a row, at least one", batch.tokens.size(), batch.rows.size());
  for (const std::int32_t token : batch.tokens)
    if (token < 0 || token >= model_.config.vocab_size)
      fail("token id {} is outside the vocabulary of {}", token, model_.config.vocab_size);
  std::map<std::int32_t, std::int32_t> next;  // sequence -> the position that may come
  for (const RowId& row : batch.rows) {
    if (row.position < 0 || row.position >= options_.capacity || row.seq < 0 || row.seq >= options_.n_sequences)
      fail("sequence {} position {} is outside the session's {} sequences of {} positions", row.seq, row.position,
           options_.n_sequences, options_.capacity);
    const auto [entry, first] = next.try_emplace(row.seq, held_.first_gap(row.seq));
    if (row.position > entry->second)
      fail("position {} of sequence {} attends to position {}, which holds nothing", row.position, row.seq, entry->second);
    entry->second = std::max(entry->second, row.position + 1);
  }
  for (std::size_t r = 1; r < batch.rows.size(); ++r)
    for (std::size_t other = r > kFewRows ? r - 1 : 0; other < r; ++other)
      if (batch.rows[r] == batch.rows[other])
        fail("sequence {} position {} stands twice in a forward call", batch.rows[r].seq, batch.rows[r].position);
  for (const std::int32_t r : batch.logit_rows)
    if (r < 0 || static_cast<std::size_t>(r) >= batch.rows.size())
      fail("logits of row {} are wanted of a forward call of {} rows", r, batch.rows.size());
}

TensorView DeviceSession::fetch(TensorView logits, const Batch& batch, std::vector<RowId>& rows) {
  for (const std::int32_t r : batch.logit_rows) rows.push_back(batch.rows[static_cast<std::size_t>(r)]);
  const auto row = static_cast<std::size_t>(model_.config.vocab_size) * sizeof(float);
  std::byte* to = logits_host_.get();
  if (logits.n_rows > 1) {
    many_logits_.resize(static_cast<std::size_t>(logits.n_rows) * row);
    to = many_logits_.data();
  }
  for (std::int64_t r = 0; r < logits.n_rows; ++r)
    device_.download(to + static_cast<std::size_t>(r) * row, logits.row(r), row, device_.stream());
  logits.data = to;
  logits.row_stride = static_cast<std::int64_t>(row);
  logits.extents = {};
  logits.rows = rows;
  return logits;
}

TensorView DeviceSession::step(Phase phase, const Batch& batch, gpu::DeviceProbe* probe) {
  std::vector<RowId> rows;
  TensorView logits = fetch(compute(phase, batch, probe, Output::logits), batch, rows);
  device_.synchronize(device_.stream());
  if (probe != nullptr) probe->end(logits);
  logits.rows = {};
  return logits;
}

std::int32_t DeviceSession::decode_sampled(std::int32_t token, std::int32_t position, const SamplerOptions& how, double unit,
                                           gpu::DeviceProbe* probe) {
  if (how.temperature != sampling_.temperature || how.top_k != sampling_.top_k || how.top_p != sampling_.top_p)
    std::erase_if(graphs_, [](const auto& entry) { return entry.first.output == Output::id; });
  sampling_ = how;
  device_.synchronize(device_.stream());
  std::memcpy(draw_host_, &unit, sizeof unit);
  device_.upload(draw_device_, draw_host_, sizeof unit, device_.stream());
  const RowId row{0, position};
  const std::int32_t wanted = 0;
  const Batch batch{{&token, 1}, {&row, 1}, {&wanted, 1}};
  TensorView logits = compute(Phase::decode, batch, probe, Output::id);
  std::vector<RowId> rows;
  if (probe != nullptr) logits = fetch(logits, batch, rows);
  device_.download(draw_host_ + kDrawnAt, draw_device_ + kDrawnAt, sizeof(std::int32_t), device_.stream());
  device_.synchronize(device_.stream());
  if (probe != nullptr) probe->end(logits);
  return *reinterpret_cast<const std::int32_t*>(draw_host_ + kDrawnAt);
}

TensorView DeviceSession::compute(Phase phase, const Batch& batch, gpu::DeviceProbe* probe, Output output) {
  check(batch);
  const StepInfo step{phase, static_cast<int>(schedule_.size()), batch.rows};
  schedule_.push_back(static_cast<std::int32_t>(batch.rows.size()));
  for (const RowId& row : batch.rows) held_.set(row, true);
  ops_.set_rows(batch.tokens, batch.rows, model_.config.n_heads);

  Shape shape{static_cast<std::int32_t>(batch.rows.size()),
              kFewestKeys,
              {batch.logit_rows.begin(), batch.logit_rows.end()},
              phase,
              probe != nullptr,
              output};
  if (!options_.graphs || batch.rows.size() > kFewRows) return run_eagerly(step, batch, probe, output);
  for (const RowId& row : batch.rows)
    shape.most_keys =
        std::max(shape.most_keys, static_cast<std::int32_t>(std::bit_ceil(static_cast<std::uint32_t>(row.position) + 1)));
  shape.most_keys = std::min(shape.most_keys, options_.capacity);
  const auto found = graphs_.find(shape);
  if (found != graphs_.end() && found->second.buffers == buffers_.version() &&
      found->second.scratch == ops_.scratch_version() && (probe == nullptr || found->second.probe == probe->version()))
    return replay(found->second, step, batch, probe);
  // Once as it comes: that takes what a capture cannot take (weights, angles, partial sums), and writes what the graph writes.
  (void)run_eagerly(step, batch, nullptr, output);
  graphs_[shape] = capture(step, batch, probe, shape);
  return replay(graphs_[shape], step, batch, probe);
}

TensorView DeviceSession::run_eagerly(const StepInfo& step, const Batch& batch, gpu::DeviceProbe* probe, Output output) {
  const bool few = step.rows.size() <= kFewRows;
  buffers_.set_keep(probe == nullptr ? DeviceBuffers::Keep::no : few ? DeviceBuffers::Keep::all : DeviceBuffers::Keep::layer);
  const RouteTable routes = plan_.routes(static_cast<std::int64_t>(batch.rows.size()));
  ops_.begin_step(step, routes);
  if (probe != nullptr)
    probe->begin({step, routes, few ? gpu::DeviceProbe::Mode::whole : gpu::DeviceProbe::Mode::layer_by_layer});
  const TensorView logits = forward(model_, batch, kv_, plan_, ops_, probe, workspace_);
  if (probe != nullptr) probe->tapped();
  queue_output(logits, output);
  return logits;
}

std::vector<RowId> DeviceSession::bucket_rows(std::span<const RowId> rows, std::int32_t most_keys) const {
  std::vector<RowId> out;
  for (const RowId& row : rows) out.push_back({row.seq, most_keys - 1});
  return out;
}

/// Buffers and grids are laid out for the bucket's last positions; the kernels read the real ones from the device.
DeviceSession::Captured DeviceSession::capture(const StepInfo& step, const Batch& batch, gpu::DeviceProbe* probe,
                                               const Shape& shape) {
  const std::vector<RowId> rows = bucket_rows(batch.rows, shape.most_keys);
  const Batch laid_out{batch.tokens, rows, batch.logit_rows};
  const RouteTable routes = plan_.routes(shape.n_rows);
  buffers_.set_keep(probe == nullptr ? DeviceBuffers::Keep::no : DeviceBuffers::Keep::all);
  ops_.begin_step({step.phase, step.step, rows}, routes);
  // Once without kernels, so that all memory is there before the capture begins.
  {
    const DryRun dry(ops_);
    (void)forward(model_, laid_out, kv_, plan_, ops_, nullptr, workspace_);
  }
  Captured captured;
  captured.buffers = buffers_.version();
  captured.scratch = ops_.scratch_version();
  device_.synchronize(device_.stream());
  if (probe != nullptr) {
    const std::int64_t scores = std::int64_t{model_.config.n_heads} * shape.most_keys;
    probe->begin({{step.phase, step.step, rows},
                  routes,
                  gpu::DeviceProbe::Mode::captured,
                  std::max<std::int64_t>({scores, model_.config.vocab_size, model_.config.d_ff, model_.config.d_model,
                                          std::int64_t{model_.config.n_heads} * model_.config.head_dim})});
  }
  captured.graph = captured_by(device_, [&] {
    captured.logits = forward(model_, laid_out, kv_, plan_, ops_, probe, workspace_);
    queue_output(captured.logits, shape.output);
  });
  if (probe == nullptr) return captured;
  captured.prints = captured_by(device_, [&] { probe->tapped(); });
  captured.probe = probe->version();
  return captured;
}

TensorView DeviceSession::replay(Captured& captured, const StepInfo& step, const Batch& batch, gpu::DeviceProbe* probe) {
  captured.graph->replay();
  ++replays_;
  if (probe != nullptr) {  // while the device computes: what the probe has to be told
    const RouteTable routes = plan_.routes(static_cast<std::int64_t>(batch.rows.size()));
    buffers_.set_keep(DeviceBuffers::Keep::all);
    probe->begin({step, routes, gpu::DeviceProbe::Mode::replayed});
    ops_.begin_step(step, routes);
    {
      const DryRun dry(ops_);
      (void)forward(model_, batch, kv_, plan_, ops_, probe, workspace_);
    }
    probe->tapped();
    if (probe->version() != captured.probe) fail("internal error: a probe's memory moved while its graph ran");
    captured.prints->replay();
  }
  return captured.logits;
}

void DeviceSession::queue_output(const TensorView& logits, Output output) {
  if (output == Output::logits) return;
  const gpu::MatrixArg row{logits.data, logits.dtype, logits.n_cols, logits.row_stride};
  auto* id = reinterpret_cast<std::int32_t*>(draw_device_ + kDrawnAt);
  if (sampling_.temperature == 0) return device_.kernels().argmax(device_.stream(), {.logits = row, .n_rows = 1, .ids = id});
  device_.kernels().sample(device_.stream(), {.logits = row,
                                              .temperature = sampling_.temperature,
                                              .top_k = sampling_.top_k,
                                              .top_p = sampling_.top_p,
                                              .unit = reinterpret_cast<const double*>(draw_device_),
                                              .id = id,
                                              .scratch = draw_device_ + kDrawBytes});
}

}  // namespace greta
