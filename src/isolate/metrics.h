// The measures of how two rows differ: one definition each, used by every verdict, table and report.
//
// The hash says whether two rows are equal; the sketch, of all elements, says how much; the slice says where. None of them is
// enough: the hash cannot tell one ULP from nonsense, the sketch has a relative standard deviation of 18 %, and the slice (the
// original report's measure) sees nothing beyond its first elements.
#pragma once

#include <cstdint>
#include <optional>
#include <span>

#include "isolate/experiment.h"
#include "trace/record.h"

namespace greta::isolate {

/// What the RMS of a difference was taken from, best first.
enum class RmsFrom : std::uint8_t {
  none,        // nothing to take it from
  sketch,      // an estimate over all elements
  slice,       // exact over the slice, silent on the rest (captures without sketches)
  statistics,  // a lower bound: RMS and mean cannot differ by more than the rows do (rows kept without slice and sketch)
};

struct Difference {
  bool bit_equal = false;
  bool hashed = true;             // false: a side knows its slice only, so equality is of slices: weaker evidence
  std::int64_t slice_n = 0;       // elements that both slices hold
  std::optional<double> mae;      // over the slice; nullopt where a slice is missing
  std::optional<double> max_abs;  // over the slice
  std::int64_t max_index = -1;    // where it is; the lowest index of a tie
  std::optional<double> cosine;   // of the slices; nullopt where one is zero or not finite
  std::optional<double> rms;      // of b - a
  std::optional<double> rel;      // rms / RMS of a; nullopt where RMS of a is 0
  RmsFrom rms_from = RmsFrom::none;
  std::int64_t nan_a = 0, nan_b = 0, inf_a = 0, inf_b = 0;
  bool all_zero = false;       // both rows
  bool counts_differ = false;  // rows of different lengths: never equal, nothing else is defined
};

/// mean |b - a| over the elements that both hold. Sees the slice only: a difference beyond it is invisible here.
/// Equal non-finite elements (the same infinity, two NaNs) count as 0; an element finite on one side only makes it infinite.
std::optional<double> slice_mae(std::span<const double> a, std::span<const double> b);
/// max |b - a| under the same rules, and the lowest index at which it stands.
struct MaxAbs {
  double value = 0;
  std::int64_t index = -1;
};
std::optional<MaxAbs> slice_max_abs(std::span<const double> a, std::span<const double> b);
/// a.b / (|a| |b|). Says nothing about scale: a row of the right direction and the wrong length has cosine 1.
std::optional<double> slice_cosine(std::span<const double> a, std::span<const double> b);
/// Norm of (b - a) from count-sketches: sqrt(sum (b_i - a_i)^2) over buckets, an estimate of the rows' own (Charikar, Chen &
/// Farach-Colton 2002) whose square has relative standard deviation sqrt(2/width). nullopt where one is missing or widths
/// differ.
std::optional<double> sketch_norm(std::span<const double> a, std::span<const double> b);

/// All measures of one pair of rows.
Difference difference(const StageRecord& a, const StageRecord& b);

/// Rows of probabilities are bounded by 1 and mostly near 0, so a relative error would judge the tail: `attn_probs` is judged
/// by the absolute RMS instead; so is any row whose RMS on side A is 0.
bool judged_absolutely(Stage stage, const Difference& difference);
/// Both types are known, and are not the same: then no hash makes the rows equal, since it tells bits of one type alone.
bool dtypes_differ(const StageRecord& a, const StageRecord& b);
/// Infinities of whole rows are counted otherwise in A than in B, or B alone has any. Masked scores are -infinity in both.
bool infinities_differ(const Difference& difference);
/// Above the thresholds: slice MAE > mae, or relative (for some absolute) RMS > rel, or a NaN on side B only, or infinities or
/// lengths that differ. False for equal hashes.
bool above(const Thresholds& thresholds, Stage stage, const Difference& difference);

}  // namespace greta::isolate
