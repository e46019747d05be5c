#include "cli/arm.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "cli/arm_ops.h"
#include "core/error.h"
#include "core/quote.h"

namespace greta::cli {
namespace {

/// Slots beyond the last position, where a shifted write may land.
constexpr std::int32_t kSpareSlots = 64;

}  // namespace

std::int32_t companion_token(std::int32_t token, std::int32_t seq, std::int32_t position, std::int32_t vocab_size) {
  if (position == 0) return token;
  return static_cast<std::int32_t>((std::int64_t{token} + seq) % vocab_size);
}

FaultTarget fault_target(const ArmSpec& spec, const Model& model, std::int32_t n_prompt) {
  return {model, n_prompt, spec.chunk, spec.batch, spec.plan.target, spec.plan.routes(1)};
}

void check_faults(const ArmSpec& spec, const Model& model) {
  for (const FaultSpec& fault : spec.faults) check_fault(fault, fault_target(spec, model, 0));
}

void refuse_idle_faults(const ArmSpec& spec, const std::vector<std::int64_t>& effects, std::string_view which) {
  for (std::size_t f = 0; f < spec.faults.size(); ++f)
    if (effects[f] == 0)
      fail("{}fault {} changed nothing in this run (0 elements); choose a layer, position or value at which it can act", which,
           quote(to_string(spec.faults[f])));
}

ArmPath fastest_path(const ArmSpec& spec) {
  // Route reference of matmul reads F32, and only the observed path widens what another plan has converted.
  const auto matmul = spec.plan.overrides.find("matmul");
  const bool widens = spec.plan.quantised_inputs && matmul != spec.plan.overrides.end() && matmul->second == "reference";
  return spec.plan.target == Target::gpu && spec.faults.empty() && !widens ? ArmPath::resident : ArmPath::observed;
}

Arm::Arm(const Model& model, const ArmSpec& spec, std::int32_t capacity, std::int32_t n_prompt, WeightHashes& weights,
         ArmPath path)
    : model_(model),
      spec_(spec),
      n_prompt_(n_prompt),
      weights_(weights),
      pool_(spec.threads),
      kv_(spec.plan.kv, model.config.n_layers, spec.batch, path == ArmPath::resident ? 1 : capacity + kSpareSlots,
          std::int64_t{model.config.n_kv_heads} * model.config.head_dim),
      route_(make_arm_ops(spec_, model, pool_)),
      recording_(*route_),
      faulty_(recording_, *route_, fault_target(spec, model, n_prompt), spec.faults),
      substituting_(faulty_, model),
      session_(model, spec.plan, substituting_, kv_) {
  if (path != ArmPath::resident) return;
  if (!spec.faults.empty()) fail("internal error: an arm on path resident with a fault");
  const std::int32_t rows = spec.batch * std::max(1, std::min(spec.chunk > 0 ? spec.chunk : capacity, capacity));
  resident_ =
      std::make_unique<DeviceSession>(model, device_model(spec_, model), spec.plan,
                                      DeviceSessionOptions{.n_sequences = spec.batch, .capacity = capacity, .most_rows = rows});
}

void Arm::record(Capture header, RecorderOptions options) {
  header.n_prompt = n_prompt_;
  header.n_layers = model_.config.n_layers;
  header.backend = spec_.backend;
  header.plan = spec_.plan.name;
  header.build = GRETA_VERSION;
  const Place place = place_of(spec_);
  header.host = place.host;
  header.device = place.device;
  header.threads = spec_.threads;
  header.model_hash = fmt::format("{:016x}", model_.file->content_hash());
  header.tokenizer_hash = fmt::format("{:016x}", vocabulary_hash(*model_.file));
  header.fault_planted = !spec_.faults.empty();
  const RouteTable routes = spec_.plan.routes(1);
  for (int op = 0; op < kOpKindCount; ++op) {
    const auto kind = static_cast<OpKind>(op);
    header.routes.emplace_back(name(kind), name(routes[kind]));
  }
  if (resident_) {
    device_recorder_ = std::make_unique<DeviceRecorder>(std::move(header), std::move(options), resident_->device());
    return;
  }
  options.pool = &pool_;
  recorder_ = std::make_unique<Recorder>(std::move(header), std::move(options), weights_);
  recording_.set_recorder(recorder_.get());
  recording_on_ = true;
}

TensorView Arm::run_rows(Phase phase, std::span<const std::int32_t> tokens, std::int32_t first, std::int32_t logits_from) {
  std::vector<std::int32_t> ids, wanted;
  std::vector<RowId> rows;
  const auto add = [&](std::size_t i, std::int32_t seq) {
    const std::int32_t position = first + static_cast<std::int32_t>(i);
    if (seq == 0 && position >= logits_from) wanted.push_back(static_cast<std::int32_t>(rows.size()));
    ids.push_back(spec_.duplicates ? tokens[i] : companion_token(tokens[i], seq, position, model_.config.vocab_size));
    rows.push_back({seq, position});
  };
  if (spec_.order == BatchOrder::by_sequence) {
    for (std::int32_t seq = 0; seq < spec_.batch; ++seq)
      for (std::size_t i = 0; i < tokens.size(); ++i) add(i, seq);
  } else {
    const std::int32_t turn = spec_.order == BatchOrder::prompt_last ? 1 : 0;
    for (std::size_t i = 0; i < tokens.size(); ++i)
      for (std::int32_t s = 0; s < spec_.batch; ++s) add(i, (s + turn) % spec_.batch);
  }
  // The rows that the returned view names die here: callers read its values only.
  if (resident_) return resident_->step(phase, {ids, rows, wanted}, device_recorder_.get());
  TensorView logits = session_.step(phase, {ids, rows, wanted}, probe());
  logits.rows = {};
  return logits;
}

void Arm::prefill(std::span<const std::int32_t> tokens, std::int32_t first, std::int32_t logits_from,
                  const OnLogits& on_logits) {
  const std::size_t size = spec_.chunk > 0 ? static_cast<std::size_t>(spec_.chunk) : tokens.size();
  for (std::size_t begin = 0; begin < tokens.size(); begin += size) {
    const auto chunk = tokens.subspan(begin, std::min(size, tokens.size() - begin));
    const std::int32_t at = first + static_cast<std::int32_t>(begin);
    const TensorView logits = run_rows(Phase::prefill, chunk, at, logits_from);
    const std::int32_t end = at + static_cast<std::int32_t>(chunk.size());
    const auto n = static_cast<std::int32_t>(logits.n_rows);
    for (std::int32_t r = 0; r < n && on_logits; ++r) on_logits(end - n + r, logits, r);
  }
}

std::vector<double> Arm::decode(std::int32_t token, std::int32_t position) {
  return row_values(run_rows(Phase::decode, {&token, 1}, position, position), 0);
}

std::int32_t Arm::decode(std::int32_t token, std::int32_t position, Sampler& sampler) {
  if (!resident_ || spec_.batch > 1) return sampler.sample(decode(token, position));
  const double unit = sampler.options().temperature == 0 ? 0.0 : sampler.next_unit();
  const std::int32_t next = resident_->decode_sampled(token, position, sampler.options(), unit, device_recorder_.get());
  if (next < 0) fail("all {} logits are NaN; run `greta isolate` to find where they come from", model_.config.vocab_size);
  return next;
}

void Arm::refuse_resident(std::string_view what) const {
  if (resident_) fail("{} is not there while everything lies on the device; run on the cpu", what);
}

void Arm::context_shift(std::int32_t keep, std::int32_t discard) {
  refuse_resident("a context shift");
  session_.sequences().context_shift(keep, discard, probe());
}

TensorView Arm::kv_slot(KvPart part, int layer, std::int32_t position) {
  TensorView slot;
  slot.data = kv_.write_slot(part, layer, {0, position});
  slot.dtype = kv_.dtype();
  slot.n_rows = 1;
  slot.n_cols = kv_.width();
  return slot;
}

Arm::Snapshot Arm::snapshot() const {
  refuse_resident("a snapshot");
  return {kv_, recording_on_ ? recorder_->memory() : Recorder::Memory{}, faulty_.memory(), session_.place()};
}

void Arm::restore(const Snapshot& snapshot, const std::vector<FaultSpec>& extra) {
  refuse_resident("a snapshot");
  kv_ = snapshot.kv;  // equal sizes: the slots stay where they are, as the ledger requires
  if (recording_on_) recorder_->set_memory(snapshot.recorder);
  std::vector<FaultSpec> faults = spec_.faults;
  faults.insert(faults.end(), extra.begin(), extra.end());
  faulty_.set_faults(std::move(faults));
  faulty_.set_memory(snapshot.faults);
  session_.return_to(snapshot.place);
}

Capture Arm::take_capture() {
  if (device_recorder_) {
    Capture capture = std::move(device_recorder_->capture());
    device_recorder_.reset();
    return capture;
  }
  if (!recording_on_) fail("internal error: a capture was taken of an arm that records nothing");
  recording_.set_recorder(nullptr);
  recording_on_ = false;
  Capture capture = std::move(recorder_->capture());
  capture.fault_effects = faulty_.effects();
  return capture;
}

}  // namespace greta::cli
