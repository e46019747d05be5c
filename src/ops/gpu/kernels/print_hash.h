// The hash of a row and what is counted beside it. None of it has an order, so any threads may share a row.
#pragma once

#include <limits>

#include "ops/gpu/kernels/print_formats.h"

namespace greta::gpu::GRETA_GPU_TARGET {

/// What threads know of a row.
template <class Value>
struct Found {
  std::uint64_t lo = 0, hi = 0;
  Value min = std::numeric_limits<Value>::infinity(), max = -std::numeric_limits<Value>::infinity();
  std::int32_t nan = 0, inf = 0, zero = 0;
  /// Index of the first zero in the upper 31 bits, the sign of it in the lowest: it gives a minimum or maximum of 0 its sign.
  std::uint32_t first_zero = 0xffffffffu;
  /// First of the order in which lanes, then indices come.
  std::int32_t zero_lane = 0;
};

template <class Format>
GRETA_DEVICE void add_element(typename Format::Word raw, std::uint32_t index, std::uint64_t key_lo, std::uint64_t key_hi,
                              Found<typename Format::Value>& found) {
  using Word = typename Format::Word;
  using Value = typename Format::Value;
  const Word magnitude = print_magnitude<Format>(raw);
  Word bits = raw;
  Value smallest = 0, largest = 0;
  if (magnitude - 1 < Word{Format::infinity} - 1) {
    smallest = largest = Format::value(raw);
  } else if (magnitude == 0) {
    if (found.zero++ == 0) found.first_zero = index << 1 | static_cast<std::uint32_t>(raw != 0);
    bits = 0;
  } else {
    if (magnitude > Format::infinity) {
      bits = Format::nan;
      ++found.nan;
    } else {
      ++found.inf;
    }
    smallest = found.min;
    largest = found.max;
  }
  found.min = smallest < found.min ? smallest : found.min;
  found.max = largest > found.max ? largest : found.max;
  std::uint64_t lo = bits ^ key_lo, hi = bits ^ key_hi;
  print_mix_lo(lo);
  print_mix_hi(hi);
  found.lo += lo;
  found.hi += hi;
}

template <class Value>
GRETA_DEVICE Found<double> widened(const Found<Value>& found) {
  return {found.lo,
          found.hi,
          static_cast<double>(found.min),
          static_cast<double>(found.max),
          found.nan,
          found.inf,
          found.zero,
          found.first_zero,
          found.zero_lane};
}

/// What a thread finds in elements first, first + stride, ... of a row; `stride` is a multiple of 8, so all are of one lane.
template <class Format>
class Finder {
 public:
  GRETA_DEVICE Finder(std::uint32_t first, std::uint32_t stride)
      : key_lo_(print_key_lo(first, Format::tag)),
        key_hi_(print_key_hi(first, Format::tag)),
        step_lo_(stride * kPrintStepLo),
        step_hi_(stride * kPrintStepHi) {
    found_.zero_lane = static_cast<std::int32_t>(first % kPrintLanes);
  }
  /// The next of them, which is element i.
  GRETA_DEVICE void add(typename Format::Word raw, std::uint32_t i) {
    add_element<Format>(raw, i, key_lo_, key_hi_, found_);
    key_lo_ += step_lo_;
    key_hi_ += step_hi_;
  }
  GRETA_DEVICE Found<double> found() const { return widened(found_); }

 private:
  std::uint64_t key_lo_, key_hi_, step_lo_, step_hi_;
  Found<typename Format::Value> found_;
};

/// Of a row in device memory. kAtOnce elements are mixed side by side, and so many are on their way.
template <class Format, int kAtOnce>
GRETA_DEVICE Found<double> hash_row(const std::byte* row, std::uint32_t count, std::uint32_t first, std::uint32_t stride) {
  Finder<Format> finder(first, stride);
  std::uint32_t i = first;
  GRETA_UNROLL_BY(1)
  for (; i + (kAtOnce - 1) * stride < count; i += kAtOnce * stride) {
    typename Format::Word raw[kAtOnce];
    GRETA_UNROLL
    for (int k = 0; k < kAtOnce; ++k) raw[k] = Format::bits(row, i + static_cast<std::uint32_t>(k) * stride);
    GRETA_UNROLL
    for (int k = 0; k < kAtOnce; ++k) finder.add(raw[k], i + static_cast<std::uint32_t>(k) * stride);
  }
  GRETA_UNROLL_BY(1)
  for (; i < count; i += stride) finder.add(Format::bits(row, i), i);
  return finder.found();
}

GRETA_DEVICE void join(const Found<double>& other, Found<double>& found) {
  found.lo += other.lo;
  found.hi += other.hi;
  if (other.min < found.min) found.min = other.min;
  if (other.max > found.max) found.max = other.max;
  const bool earlier =
      other.zero_lane < found.zero_lane || (other.zero_lane == found.zero_lane && other.first_zero < found.first_zero);
  if (other.zero > 0 && (found.zero == 0 || earlier)) {
    found.first_zero = other.first_zero;
    found.zero_lane = other.zero_lane;
  }
  found.nan += other.nan;
  found.inf += other.inf;
  found.zero += other.zero;
}

/// Threads that join what they found by shuffles; a wave has one or two such groups.
inline constexpr int kJoined = 32;

/// Over each kJoined neighbouring threads; every thread of the wave calls it.
GRETA_DEVICE void join_threads(Found<double>& found) {
  for (int mask = kJoined / 2; mask > 0; mask /= 2) {
    Found<double> other;
    other.lo = shuffle_xor(found.lo, mask);
    other.hi = shuffle_xor(found.hi, mask);
    other.min = shuffle_xor(found.min, mask);
    other.max = shuffle_xor(found.max, mask);
    other.nan = shuffle_xor(found.nan, mask);
    other.inf = shuffle_xor(found.inf, mask);
    other.zero = shuffle_xor(found.zero, mask);
    other.first_zero = shuffle_xor(found.first_zero, mask);
    other.zero_lane = shuffle_xor(found.zero_lane, mask);
    join(other, found);
  }
}

/// All of the row's sums but the three chains.
GRETA_DEVICE void write_found(const Found<double>& found, std::int64_t count, RowSums& out) {
  const double zero = (found.first_zero & 1) != 0 ? -0.0 : 0.0;
  out.hash.lo = found.lo;
  out.hash.hi = found.hi;
  out.min = found.min == 0 ? zero : found.min;
  out.max = found.max == 0 ? zero : found.max;
  out.finite = count - found.nan - found.inf;
  out.nan = found.nan;
  out.inf = found.inf;
  out.zero = found.zero;
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
