#include "ops/gpu/print_batch.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "core/activation_blocks.h"
#include "core/error.h"
#include "ops/gpu/sketch_order.h"

namespace greta::gpu {

void ReleaseMemory::operator()(std::byte* memory) const noexcept {
  if (host)
    device->release_host(memory);
  else
    device->release(memory);
}

PrintBatch::Memory PrintBatch::on_device(std::size_t bytes, std::string_view what) const {
  return {device_->allocate(bytes, what), ReleaseMemory{device_, false}};
}
PrintBatch::Memory PrintBatch::on_host(std::size_t bytes, std::string_view what) const {
  return {device_->allocate_host(bytes, what), ReleaseMemory{device_, true}};
}

PrintBatch::PrintBatch(Device& device) : device_(&device) {}

void PrintBatch::begin() {
  jobs_.clear();
  sketch_elements_ = 0;
  n_sketches_ = 0;
}

void PrintBatch::add(const OpSite& site, const std::byte* row, DType dtype, std::int64_t count, bool sketch) {
  if (dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16 && dtype != DType::q8_f32)
    fail("fingerprint of {} of layer {} on the device: rows of type {} are not printed there (known: f32 f16 bf16 q8_f32)",
         name(site.stage), site.layer, name(dtype));
  if (count < 0 || count > std::numeric_limits<std::int32_t>::max() ||
      (dtype == DType::q8_f32 && count % kActivationBlock != 0))
    fail("fingerprint of {} of layer {} on the device: a row of {} elements of type {}; give 0 to 2^31-1, whole blocks of them",
         name(site.stage), site.layer, count, name(dtype));
  jobs_.push_back({row, count, dtype, sketch ? n_sketches_++ : -1});
  if (sketch) sketch_elements_ = std::max(sketch_elements_, count);
}

void PrintBatch::reserve(std::size_t jobs, std::int64_t sketch_elements) { make_room(jobs, jobs, sketch_elements); }

void PrintBatch::make_room(std::size_t jobs, std::size_t sketches, std::int64_t sketch_elements) {
  if (jobs > capacity_ || sketches > sketch_capacity_) {
    capacity_ = jobs > capacity_ ? std::max(jobs, 2 * capacity_) : capacity_;
    sketch_capacity_ = sketches > sketch_capacity_ ? std::max(sketches, 2 * sketch_capacity_) : sketch_capacity_;
    const std::size_t sums = capacity_ * sizeof(RowSums) + sketch_capacity_ * kSketchWidth * sizeof(double);
    // Given back first: the old and the new need not fit together.
    device_jobs_.reset();
    device_sums_.reset();
    device_jobs_ = on_device(capacity_ * sizeof(PrintJob), "rows to be fingerprinted");
    device_sums_ = on_device(sums, "fingerprints");
    host_jobs_ = on_host(capacity_ * sizeof(PrintJob), "rows to be fingerprinted");
    host_sums_ = on_host(sums, "fingerprints");
    ++generation_;
  }
  if (sketch_elements > table_elements_) {
    const SketchOrder table = sketch_order(std::max(sketch_elements, 2 * table_elements_));
    const std::size_t order = table.order.size() * sizeof(std::uint32_t), begin = table.begin.size() * sizeof(std::uint32_t);
    order_.reset();
    order_ = on_device(order, "order of the sketch");
    order_begin_ = on_device(begin, "order of the sketch");
    device_->upload(order_.get(), table.order.data(), order, device_->stream());
    device_->upload(order_begin_.get(), table.begin.data(), begin, device_->stream());
    device_->synchronize(device_->stream());  // another stream may read them
    table_elements_ = table.elements;
    ++generation_;
  }
}

void PrintBatch::commit(Stream stream) {
  make_room(jobs_.size(), static_cast<std::size_t>(n_sketches_), sketch_elements_);
  if (jobs_.empty()) return;
  const std::size_t bytes = jobs_.size() * sizeof(PrintJob);
  std::memcpy(host_jobs_.get(), jobs_.data(), bytes);
  device_->upload(device_jobs_.get(), host_jobs_.get(), bytes, stream);
}

void PrintBatch::queue(Stream stream, Stream copies) {
  if (jobs_.empty()) return;
  device_->kernels().fingerprint(stream, {.jobs = reinterpret_cast<const PrintJob*>(device_jobs_.get()),
                                          .n_jobs = static_cast<std::int64_t>(jobs_.size()),
                                          .sums = reinterpret_cast<RowSums*>(device_sums_.get()),
                                          .sketches = reinterpret_cast<double*>(device_sums_.get() + sketches_at()),
                                          .sketch_order = reinterpret_cast<const std::uint32_t*>(order_.get()),
                                          .sketch_begin = reinterpret_cast<const std::uint32_t*>(order_begin_.get())});
  if (copies != stream) device_->order(stream, copies);
  // One copy where it is not mostly gaps: sums and sketches lie in one piece.
  const std::size_t sums = jobs_.size() * sizeof(RowSums);
  const std::size_t sketches = static_cast<std::size_t>(n_sketches_) * kSketchWidth * sizeof(double);
  if (2 * sums >= sketches_at()) {
    device_->download(host_sums_.get(), device_sums_.get(), sketches == 0 ? sums : sketches_at() + sketches, copies);
    return;
  }
  device_->download(host_sums_.get(), device_sums_.get(), sums, copies);
  if (sketches > 0) device_->download(host_sums_.get() + sketches_at(), device_sums_.get() + sketches_at(), sketches, copies);
}

std::span<const RowSums> PrintBatch::sums() const { return {reinterpret_cast<const RowSums*>(host_sums_.get()), jobs_.size()}; }

std::span<const double> PrintBatch::sketch(std::size_t i) const {
  if (jobs_[i].sketch < 0) return {};
  const auto* sketches = reinterpret_cast<const double*>(host_sums_.get() + sketches_at());
  return {sketches + static_cast<std::size_t>(jobs_[i].sketch) * kSketchWidth, kSketchWidth};
}

}  // namespace greta::gpu
