// The statistics of a row: 8 chains each of dependent float64 additions for its sum, its squares and its magnitudes, whose
// order is part of the format. No machine can shorten a chain; it can run many, or shorten what is done between two additions.
#pragma once

#include "ops/gpu/kernels/print_formats.h"

namespace greta::gpu::GRETA_GPU_TARGET {

/// The three sums of a lane.
template <class Format>
struct AllSums {
  double sum = 0, squares = 0, abs_sum = 0;
  GRETA_DEVICE void add(double x) {
    sum += x;
    if constexpr (Format::exact_square)
      squares = fma(x, x, squares);
    else
      squares += x * x;
    abs_sum += __builtin_fabs(x);
  }
};

enum class SumOf : int { values, squares, magnitudes };

/// One of the three: of x times 1, x or its sign. The products with 1 and the sign are exact, so fma() rounds as an addition
/// does.
template <class Format>
class OneSum {
 public:
  GRETA_DEVICE explicit OneSum(SumOf which) {
    if (which == SumOf::squares) return;
    keep_ = which == SumOf::values ? 0 : std::uint64_t{1} << 63;
    set_ = std::uint64_t{0x3ff} << 52;
  }
  GRETA_DEVICE void add(double x) {
    const auto factor = __builtin_bit_cast(double, (__builtin_bit_cast(std::uint64_t, x) & keep_) | set_);
    if constexpr (Format::exact_square)
      total_ = fma(x, factor, total_);
    else
      total_ += x * factor;
  }
  GRETA_DEVICE double total() const { return total_; }

 private:
  double total_ = 0;
  std::uint64_t keep_ = ~std::uint64_t{0}, set_ = 0;  // bits of x that are the factor's, bits that are set
};

/// Adds the lane's elements in order: lane, lane + 8, ... Elements are read a round before they are added; zeros past the end
/// of the row change no sum.
template <class Format>
GRETA_DEVICE void add_lane(const std::byte* row, std::uint32_t count, std::uint32_t lane, AllSums<Format>& sums) {
  constexpr std::uint32_t kRound = sizeof(typename Format::Word) == 4 ? 16 : 8, kStep = kRound * kPrintLanes;
  typename Format::Word next[kRound];
  const auto read = [&](std::uint32_t base) {
    if (base + kStep <= count) {
      GRETA_UNROLL
      for (std::uint32_t k = 0; k < kRound; ++k) next[k] = Format::bits(row, base + lane + k * kPrintLanes);
    } else {
      GRETA_UNROLL
      for (std::uint32_t k = 0; k < kRound; ++k) {
        const std::uint32_t i = base + lane + k * kPrintLanes;
        next[k] = i < count ? Format::bits(row, i) : 0;
      }
    }
  };
  read(0);
  GRETA_UNROLL_BY(1)
  for (std::uint32_t base = 0; base < count; base += kStep) {
    typename Format::Word now[kRound];
    GRETA_UNROLL
    for (std::uint32_t k = 0; k < kRound; ++k) now[k] = next[k];
    if (base + kStep < count) read(base + kStep);
    GRETA_UNROLL
    for (std::uint32_t k = 0; k < kRound; ++k) sums.add(print_value<Format>(now[k]));
  }
}

/// Elements of a lane that are read together.
inline constexpr int kChainRound = 16;
/// The same for one of the sums, over `n` elements that lie as float64 in shared memory, zeros behind them up to the next
/// multiple of kChainRound * kPrintLanes.
template <class Format>
GRETA_DEVICE void add_tile(const double* tile, int n, int lane, OneSum<Format>& sum) {
  GRETA_UNROLL_BY(1)
  for (int base = 0; base < n; base += kChainRound * kPrintLanes) {
    GRETA_UNROLL
    for (int k = 0; k < kChainRound; ++k) sum.add(tile[base + k * kPrintLanes + lane]);
  }
}

/// ((v0 + v1) + (v2 + v3)) + ((v4 + v5) + (v6 + v7)) of the values of 8 neighbouring threads, for each of them.
GRETA_DEVICE double lane_tree(double v) {
  static_assert(kPrintLanes == 8);
  for (int mask = 1; mask < kPrintLanes; mask *= 2) v += shuffle_xor(v, mask);
  return v;
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
