// The sketch of a row: 64 buckets, each of which adds its elements in ascending order. sketch_order.h says which they are.
#pragma once

#include "ops/gpu/kernels/print_formats.h"

namespace greta::gpu::GRETA_GPU_TARGET {

/// A bucket's entries in the table, one tile after the other, and its sum. Entries are read a round before they are used.
class Bucket {
 public:
  /// Begins a row of `count` elements, at least 1.
  GRETA_DEVICE void begin(const FingerprintArgs& args, std::uint32_t count, int bucket) {
    begin_ = args.sketch_begin;
    order_ = args.sketch_order + bucket;
    end_ = begin_[(count + kSketchTile - 1) / kSketchTile];
    tile_end_ = begin_[1];
    read();
  }
  /// Adds those of the next tile: value(i) is element i of it, 0 for i = kSketchTile and past the end of the row.
  template <class ValueAt>
  GRETA_DEVICE void add_tile(const ValueAt& value) {
    const std::uint32_t end = tile_end_;
    tile_end_ = end < end_ ? begin_[++tile_ + 1] : end;  // for the next one
    GRETA_UNROLL_BY(1)
    for (; done_ < end; done_ += kSketchRound) {
      double x[kSketchRound];
      GRETA_UNROLL
      for (int k = 0; k < kSketchRound; ++k) {
        x[k] = value(entry_[k] & 0x7fffffffu);
        x[k] = (entry_[k] >> 31) != 0 ? -x[k] : x[k];
      }
      if (done_ + kSketchRound < end_) read();
      GRETA_UNROLL
      for (int k = 0; k < kSketchRound; ++k) sum_ += x[k];
    }
  }
  GRETA_DEVICE double sum() const { return sum_; }

 private:
  GRETA_DEVICE void read() {
    GRETA_UNROLL
    for (int k = 0; k < kSketchRound; ++k) entry_[k] = order_[k * kSketchWidth];
    order_ += kSketchRound * kSketchWidth;
  }

  const std::uint32_t* begin_ = nullptr;
  const std::uint32_t* order_ = nullptr;
  std::uint32_t end_ = 0, tile_end_ = 0, tile_ = 0, done_ = 0;
  std::uint32_t entry_[kSketchRound] = {};
  double sum_ = 0;
};

GRETA_DEVICE double& sketch_of(const FingerprintArgs& args, const PrintJob& job, int bucket) {
  return args.sketches[static_cast<std::size_t>(job.sketch) * kSketchWidth + static_cast<std::size_t>(bucket)];
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
