// Fingerprints of the rows that a step leaves in device memory: one launch and one copy for all of them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/dtype.h"
#include "core/site.h"
#include "ops/gpu/device.h"

namespace greta::gpu {

/// Gives memory back to its device: device memory, or the host's page-locked one.
struct ReleaseMemory {
  Device* device = nullptr;
  bool host = false;
  void operator()(std::byte* memory) const noexcept;
};

/// begin(), add() for every row, commit(); then queue() as often as these rows are written again, alone or within a capture.
/// What a captured graph reads and writes stays where it is while generation() is the same: the next step may begin() and add()
/// as many jobs with other rows or counts and commit() them before the graph is replayed.
class PrintBatch {
 public:
  /// `device` outlives the batch.
  explicit PrintBatch(Device& device);
  PrintBatch(PrintBatch&&) = default;

  /// Forgets the jobs. What is queued must have run: synchronize() its stream before.
  void begin();
  /// `row`: device memory; f32, f16, bf16 or q8_f32. Throws Error, which names the site, for other types, and for counts
  /// outside 0..2^31-1 or, of q8_f32, not of whole blocks.
  void add(const OpSite& site, const std::byte* row, DType dtype, std::int64_t count, bool sketch);
  /// Makes room for at least as many jobs, all with a sketch, and elements of such rows, so that generation() stays the same up
  /// to there.
  void reserve(std::size_t jobs, std::int64_t sketch_elements);
  /// Sends the jobs to the device. Not within a capture.
  void commit(Stream stream);
  /// Queues the kernel and the copy of its sums. The number of jobs is part of a capture.
  void queue(Stream stream) { queue(stream, stream); }
  /// The same with the copy on another stream, behind the kernel: what comes later on `stream` need not wait for it.
  void queue(Stream stream, Stream copies);

  std::span<const PrintJob> jobs() const { return jobs_; }
  /// One a row, in their order; good from when the copy's stream has been waited for until begin().
  std::span<const RowSums> sums() const;
  /// Of row `i`, [kSketchWidth]; empty where it has none. Good as long.
  std::span<const double> sketch(std::size_t i) const;
  /// Grows when memory that a capture refers to was given back.
  std::uint64_t generation() const { return generation_; }

 private:
  using Memory = std::unique_ptr<std::byte, ReleaseMemory>;
  void make_room(std::size_t jobs, std::size_t sketches, std::int64_t sketch_elements);
  Memory on_device(std::size_t bytes, std::string_view what) const;
  std::size_t sketches_at() const { return capacity_ * sizeof(RowSums); }  // bytes
  Memory on_host(std::size_t bytes, std::string_view what) const;

  Device* device_;
  std::vector<PrintJob> jobs_;
  std::int64_t sketch_elements_ = 0;  // longest row with a sketch
  std::int32_t n_sketches_ = 0;
  std::size_t capacity_ = 0;                                                        // jobs
  std::size_t sketch_capacity_ = 0;                                                 // sketches
  std::int64_t table_elements_ = 0;                                                 // of the sketch's table
  Memory device_jobs_, device_sums_, order_, order_begin_, host_jobs_, host_sums_;  // sums: then the sketches
  std::uint64_t generation_ = 0;
};

}  // namespace greta::gpu
