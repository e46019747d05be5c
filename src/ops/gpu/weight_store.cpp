#include "ops/gpu/weight_store.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "core/blocks.h"
#include "core/error.h"
#include "ops/cpu/weight_rows.h"

namespace greta::gpu {
namespace {

/// Bytes of one of the two page-locked buffers of an upload.
constexpr std::size_t kPiece = std::size_t{16} << 20;
/// Bytes left free behind a matrix; no kernel here reads them.
constexpr std::size_t kSlack = 256;

std::size_t size_of(const WeightView& weight) { return static_cast<std::size_t>(weight.size()); }

/// Two page-locked buffers that take turns: one is filled while the other is copied to the device.
class Pieces {
 public:
  explicit Pieces(Device& device) : device_(device) {
    for (auto& buffer : buffers_) buffer = device.allocate_host(kPiece, "staging of weights");
  }
  ~Pieces() {
    for (std::byte* buffer : buffers_) device_.release_host(buffer);
  }
  Pieces(const Pieces&) = delete;
  Pieces& operator=(const Pieces&) = delete;

  void send(std::byte* to, const std::byte* from, std::size_t bytes) {
    const std::size_t turn = turn_++ % buffers_.size();
    if (turn_ > buffers_.size()) device_.synchronize(streams(turn));
    std::memcpy(buffers_[turn], from, bytes);
    device_.upload(to, buffers_[turn], bytes, streams(turn));
  }
  void finish() {
    for (std::size_t turn = 0; turn < buffers_.size(); ++turn) device_.synchronize(streams(turn));
  }

 private:
  Stream streams(std::size_t turn) const { return turn == 0 ? device_.stream() : device_.side_stream(); }
  Device& device_;
  std::array<std::byte*, 2> buffers_{};
  std::size_t turn_ = 0;
};

}  // namespace

WeightStore::WeightStore(Device& device, std::span<const WeightView> weights) : device_(device) {
  for (const WeightView& weight : weights)
    if (weight) known_[weight.data] = {weight, nullptr};
}

WeightStore::~WeightStore() {
  for (auto& [data, known] : known_) device_.release(known.on_device);
  for (auto& [data, vector] : vectors_) device_.release(vector);
  for (std::byte* temporary : temporaries_) device_.release(temporary);
}

std::size_t WeightStore::bytes() const {
  std::size_t total = 0;
  for (const auto& [data, known] : known_) total += size_of(known.view) + kSlack;
  return total;
}

void WeightStore::upload_all(const std::function<void(std::uint64_t done, std::uint64_t all)>& progress) {
  std::size_t missing = 0;
  for (const auto& [data, known] : known_)
    if (known.on_device == nullptr) missing += size_of(known.view) + kSlack;
  if (missing == 0) return;
  if (const std::size_t free = device_.free_memory(); missing > free)
    fail("{} {}: the weights take {} MiB and {} MiB are free; use a smaller model, other weights or another device",
         device_.info().backend, device_.info().index, missing >> 20, free >> 20);
  Pieces pieces(device_);
  std::uint64_t done = 0;
  for (auto& [data, known] : known_) {
    if (known.on_device != nullptr) continue;
    const std::size_t size = size_of(known.view);
    known.on_device = device_.allocate(size + kSlack, known.view.name);
    for (std::size_t at = 0; at < size; at += kPiece) {
      const std::size_t piece = std::min(kPiece, size - at);
      pieces.send(known.on_device + at, data + at, piece);
      done += piece;
      if (progress) progress(done, missing);
    }
  }
  pieces.finish();
  if (progress) progress(missing, missing);
}

std::byte* WeightStore::upload(const void* from, std::size_t bytes, std::string_view what) {
  std::byte* to = device_.allocate(bytes + kSlack, what);
  device_.upload(to, from, bytes, device_.stream());
  return to;
}

std::byte* WeightStore::upload_temporary(const void* from, std::size_t bytes, std::string_view what) {
  return temporaries_.emplace_back(upload(from, bytes, what));
}

/// The weight as the model has it; null where it is another.
WeightStore::Known* WeightStore::find(const WeightView& weight) {
  const auto found = known_.find(weight.data);
  if (found == known_.end()) return nullptr;
  const WeightView& known = found->second.view;
  const bool same = known.dtype == weight.dtype && known.n_rows == weight.n_rows && known.n_cols == weight.n_cols;
  return same ? &found->second : nullptr;
}

WeightArg WeightStore::matrix(const WeightView& weight) {
  WeightArg arg{nullptr, weight.dtype, weight.n_rows, weight.n_cols, false};
  if (weight.layout == WeightLayout::transposed) {
    std::vector<float> rows(static_cast<std::size_t>(weight.n_rows * weight.n_cols));
    dequantize_outputs(weight, 0, weight.n_rows, rows.data());
    arg.dtype = DType::f32;
    arg.data = upload_temporary(rows.data(), rows.size() * sizeof(float), weight.name);
    return arg;
  }
  Known* known = find(weight);
  if (known == nullptr) {
    arg.data = upload_temporary(weight.data, size_of(weight), weight.name);
    return arg;
  }
  if (known->on_device == nullptr) known->on_device = upload(weight.data, size_of(weight), weight.name);
  arg.data = known->on_device;
  return arg;
}

const float* WeightStore::vector(const WeightView& weight) {
  if (!weight) return nullptr;
  const bool known = find(weight) != nullptr;
  if (known)
    if (const auto found = vectors_.find(weight.data); found != vectors_.end())
      return reinterpret_cast<const float*>(found->second);
  std::vector<float> values(static_cast<std::size_t>(weight.n_cols));
  dequantize_row(weight.dtype, weight.data, weight.n_cols, values.data());
  const std::size_t bytes = values.size() * sizeof(float);
  std::byte* on_device =
      known ? upload(values.data(), bytes, weight.name) : upload_temporary(values.data(), bytes, weight.name);
  if (known) vectors_[weight.data] = on_device;
  return reinterpret_cast<const float*>(on_device);
}

void WeightStore::release_temporaries() {
  for (std::byte* temporary : temporaries_) device_.release(temporary);
  temporaries_.clear();
}

}  // namespace greta::gpu
