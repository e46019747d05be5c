#include "ops/gpu/staging.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <map>
#include <utility>

#include "ops/cpu/kv_slots.h"

namespace greta::gpu {
namespace {

constexpr std::size_t kAlignment = 256;
constexpr std::size_t kRowAlignment = 64;
constexpr std::size_t kBlock = std::size_t{8} << 20;
constexpr std::size_t kBusy = std::size_t{8} << 20;  // bytes that are filled to keep a stream busy,
constexpr int kBusyFills = 4;                        // so many times: some 10 microseconds

std::size_t rounded_up(std::size_t bytes, std::size_t to) { return (bytes + to - 1) / to * to; }

std::size_t row_size(const TensorView& view, std::int64_t r) {
  return static_cast<std::size_t>(row_bytes(view.dtype, view.cols(r)));
}

/// A dense number for every sequence, in the order of their numbers.
std::map<std::int32_t, std::int32_t> numbered(std::span<const RowId> rows) {
  std::map<std::int32_t, std::int32_t> numbers;
  for (const RowId& row : rows) numbers[row.seq] = 0;
  std::int32_t next = 0;
  for (auto& [seq, number] : numbers) number = next++;
  return numbers;
}

}  // namespace

Staging::~Staging() {
  for (const Block& block : blocks_) device_.release(block.memory);
  if (locked_ != nullptr) device_.release_host(locked_);
  if (busy_ != nullptr) device_.release(busy_);
}

void Staging::begin() {
  late_.clear();
  late_bytes_.clear();
  for (Block& block : blocks_) block.used = 0;
}

std::byte* Staging::take(std::size_t bytes) {
  const std::size_t size = rounded_up(std::max<std::size_t>(bytes, 1), kAlignment) + kAlignment;
  for (Block& block : blocks_) {
    if (block.capacity - block.used < size) continue;
    std::byte* at = block.memory + block.used;
    block.used += size;
    return at;
  }
  const std::size_t capacity = std::max(kBlock, size);
  blocks_.push_back({device_.allocate(capacity, "operands of an op"), capacity, size});
  return blocks_.back().memory;
}

std::byte* Staging::put(const void* from, std::size_t bytes) {
  std::byte* to = take(bytes);
  device_.upload(to, from, bytes, device_.stream());
  return to;
}

/// An operand that is a matrix of activations. Metadata and slots never arrive late: a kernel with a wrong position reads what
/// is not its own.
std::byte* Staging::put_matrix(const void* from, std::size_t bytes) {
  if (fault_ == TransferFault::none) return put(from, bytes);
  std::byte* to = room(bytes);
  const auto* first = static_cast<const std::byte*>(from);
  late_.push_back({to, late_bytes_.size(), bytes});
  late_bytes_.insert(late_bytes_.end(), first, first + bytes);
  return to;
}

std::byte* Staging::locked_room(std::size_t bytes) {
  if (bytes > locked_bytes_) {
    if (locked_ != nullptr) device_.release_host(std::exchange(locked_, nullptr));
    locked_ = device_.allocate_host(bytes, "operands on their way");
    locked_bytes_ = bytes;
  }
  return locked_;
}

/// Half of the times the main stream has something to do before the copy: a race that is always lost looks like a wrong kernel.
void Staging::keep_busy() {
  if (std::chrono::steady_clock::now().time_since_epoch().count() / 16 % 2 == 0) return;
  if (busy_ == nullptr) busy_ = device_.allocate(kBusy, "memory to keep a stream busy with");
  for (int i = 0; i < kBusyFills; ++i) device_.fill(busy_, 0, kBusy, device_.stream());
}

Stream Staging::depart() {
  if (late_.empty()) return device_.stream();
  std::byte* locked = locked_room(late_bytes_.size());
  std::memcpy(locked, late_bytes_.data(), late_bytes_.size());
  device_.synchronize(device_.stream());  // all else is there
  keep_busy();
  for (const Late& late : late_) device_.upload(late.to, locked + late.at, late.bytes, device_.stream());
  if (fault_ == TransferFault::wrong_stream) return device_.side_stream();
  std::memset(locked, 0xff, late_bytes_.size());
  return device_.stream();
}

/// Brings bytes back when the kernel is done.
void Staging::arrive(void* to_host, const std::byte* from, std::size_t bytes) {
  if (fault_ == TransferFault::wrong_stream) device_.order(device_.side_stream(), device_.stream());
  device_.download(to_host, from, bytes, device_.stream());
  device_.synchronize(device_.stream());
}

std::byte* Staging::room(std::size_t bytes) {
  std::byte* to = take(bytes);
  device_.fill(to, 0xff, bytes, device_.stream());
  return to;
}

MatrixArg Staging::room(DType dtype, std::int64_t n_rows, std::int64_t n_cols) {
  const std::size_t stride = rounded_up(static_cast<std::size_t>(row_bytes(dtype, n_cols)) + padding_, kRowAlignment);
  return {room(stride * static_cast<std::size_t>(n_rows)), dtype, n_cols, static_cast<std::int64_t>(stride)};
}

MatrixArg Staging::put(const TensorView& view) {
  const std::size_t stride = rounded_up(static_cast<std::size_t>(row_bytes(view.dtype, view.n_cols)) + padding_, kRowAlignment);
  host_.assign(stride * static_cast<std::size_t>(view.n_rows), std::byte{0xff});
  for (std::int64_t r = 0; r < view.n_rows; ++r)
    std::memcpy(host_.data() + stride * static_cast<std::size_t>(r), view.row(r), row_size(view, r));
  return {put_matrix(host_.data(), host_.size()), view.dtype, view.n_cols, static_cast<std::int64_t>(stride)};
}

void Staging::fetch(const MatrixArg& from, const TensorView& view) {
  const auto stride = static_cast<std::size_t>(from.stride);
  host_.resize(stride * static_cast<std::size_t>(view.n_rows));
  arrive(host_.data(), from.data, host_.size());
  for (std::int64_t r = 0; r < view.n_rows; ++r)
    std::memcpy(view.row(r), host_.data() + stride * static_cast<std::size_t>(r), row_size(view, r));
}

RowsArg Staging::rows(std::span<const RowId> rows, std::int64_t n_heads) {
  const auto numbers = numbered(rows);
  std::vector<std::int32_t> positions, sequences;
  std::vector<std::int64_t> offsets;
  std::int64_t offset = 0;
  RowsArg arg;
  for (const RowId& row : rows) {
    positions.push_back(row.position);
    sequences.push_back(numbers.at(row.seq));
    offsets.push_back(offset);
    offset += n_heads * (std::int64_t{row.position} + 1);
    arg.most_keys = std::max(arg.most_keys, row.position + 1);
  }
  const auto device_copy = [&](const auto& values) { return put(values.data(), values.size() * sizeof(values[0])); };
  arg.n = static_cast<std::int32_t>(rows.size());
  arg.position = reinterpret_cast<const std::int32_t*>(device_copy(positions));
  arg.sequence = reinterpret_cast<const std::int32_t*>(device_copy(sequences));
  arg.score_offset = reinterpret_cast<const std::int64_t*>(device_copy(offsets));
  return arg;
}

float* Staging::put_scores(const TensorView& scores) {
  host_.clear();
  for (std::int64_t r = 0; r < scores.n_rows; ++r)
    host_.insert(host_.end(), scores.row(r), scores.row(r) + row_size(scores, r));
  return reinterpret_cast<float*>(put_matrix(host_.data(), host_.size()));
}

float* Staging::room_for_scores(const TensorView& scores) {
  std::size_t bytes = 0;
  for (std::int64_t r = 0; r < scores.n_rows; ++r) bytes += row_size(scores, r);
  return reinterpret_cast<float*>(room(bytes));
}

void Staging::fetch_scores(const float* from, const TensorView& scores) {
  std::size_t bytes = 0;
  for (std::int64_t r = 0; r < scores.n_rows; ++r) bytes += row_size(scores, r);
  host_.resize(bytes);
  arrive(host_.data(), reinterpret_cast<const std::byte*>(from), bytes);
  const std::byte* row = host_.data();
  for (std::int64_t r = 0; r < scores.n_rows; ++r) {
    std::memcpy(scores.row(r), row, row_size(scores, r));
    row += row_size(scores, r);
  }
}

KvArg Staging::slots(KvView& kv, KvPart part, int layer, std::span<const RowId> rows) {
  const KvSlots found(kv, part, layer, rows);
  const auto numbers = numbered(rows);
  std::int32_t keys = 0;
  for (const RowId& row : rows) keys = std::max(keys, row.position + 1);
  const auto slot = static_cast<std::size_t>(row_bytes(kv.dtype(), kv.width()));
  const std::size_t stride = rounded_up(slot, kRowAlignment), sequence = stride * static_cast<std::size_t>(keys);
  host_.assign(sequence * numbers.size(), std::byte{0xff});
  std::map<std::int32_t, std::int32_t> copied;  // sequence -> slots that are there
  for (std::size_t r = 0; r < rows.size(); ++r) {
    std::int32_t& done = copied[rows[r].seq];
    std::byte* to = host_.data() + sequence * static_cast<std::size_t>(numbers.at(rows[r].seq));
    const std::byte* const* from = found.slots(static_cast<std::int64_t>(r));
    for (; done <= rows[r].position; ++done) std::memcpy(to + stride * static_cast<std::size_t>(done), from[done], slot);
  }
  return {put(host_.data(), host_.size()), kv.dtype(), static_cast<std::int64_t>(sequence), static_cast<std::int64_t>(stride),
          static_cast<std::int32_t>(kv.width())};
}

}  // namespace greta::gpu
