// Each measure against closed forms.
#include "isolate/metrics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace greta::isolate {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr double kInf = std::numeric_limits<double>::infinity();

StageRecord row(std::vector<double> values, Stage stage = Stage::mlp_out, std::uint64_t hash = 1) {
  StageRecord record;
  record.stage = stage;
  record.print.count = static_cast<std::int64_t>(values.size());
  record.print.hash = {hash, 7};
  double squares = 0;
  for (const double x : values) {
    if (std::isnan(x)) ++record.print.nan;
    if (std::isinf(x)) ++record.print.inf;
    if (x == 0) ++record.print.zero;
    if (std::isfinite(x)) squares += x * x;
    if (std::isfinite(x)) record.print.mean += x / static_cast<double>(values.size());
  }
  record.print.rms = std::sqrt(squares / static_cast<double>(values.size()));
  record.print.sample = std::move(values);
  return record;
}

TEST(Metrics, MaeAndMaximumOverWhatBothHold) {
  const std::vector<double> a = {1, 2, 3, 4};
  const std::vector<double> b = {1.5, 2, 2, 4, 9};
  EXPECT_EQ(slice_mae(a, b), 1.5 / 4);
  EXPECT_EQ(slice_max_abs(a, b)->value, 1.0);
  EXPECT_EQ(slice_max_abs(a, b)->index, 2);
  EXPECT_FALSE(slice_mae(a, {}));
  EXPECT_FALSE(slice_max_abs({}, b));
}

TEST(Metrics, NonFiniteElements) {
  EXPECT_EQ(slice_mae(std::vector<double>{kNan, kInf, 1}, std::vector<double>{kNan, kInf, 2}), 1.0 / 3);
  EXPECT_EQ(slice_mae(std::vector<double>{1, 1}, std::vector<double>{kNan, 1}), kInf);
  EXPECT_EQ(slice_mae(std::vector<double>{kInf}, std::vector<double>{-kInf}), kInf);
  EXPECT_EQ(slice_mae(std::vector<double>{0.0}, std::vector<double>{-0.0}), 0.0);
}

TEST(Metrics, MasksThatAreEqualNeitherDifferNorDilute) {
  // A window's -infinity in both: the same difference of the visible elements counts the same, however many are hidden.
  const Difference seen = difference(row({3, 4}), row({3, 4.001}, Stage::attn_scores, 2));
  const Difference hidden = difference(row({-kInf, -kInf, -kInf, 3, 4}), row({-kInf, -kInf, -kInf, 3, 4.001}, Stage::attn_scores, 2));
  EXPECT_EQ(*hidden.rms, *seen.rms);
  EXPECT_EQ(*hidden.rel, *seen.rel);
  EXPECT_GT(*hidden.rel, 0.0);
  EXPECT_NEAR(*hidden.cosine, 1.0, 1e-6);
  EXPECT_TRUE(above({1e-6, 1e-6}, Stage::attn_scores, hidden));
  EXPECT_TRUE(difference(row({-kInf, 1}), row({-kInf, 1})).bit_equal);
}

TEST(Metrics, AMaskThatDiffersIsALargeDifferenceWhereverItLies) {
  const Difference d = difference(row({-kInf, 3, 4}, Stage::attn_scores), row({2, 3, 4}, Stage::attn_scores, 2));
  EXPECT_EQ(*d.mae, kInf);
  EXPECT_TRUE(above({1e9, 1e9}, Stage::attn_scores, d));
  StageRecord a = row({3, 4}, Stage::attn_scores), b = row({3, 4}, Stage::attn_scores, 2);
  a.print.count = b.print.count = 5000;  // beyond the slice
  a.print.inf = 7;
  b.print.inf = 6;
  EXPECT_TRUE(above({1e9, 1e9}, Stage::attn_scores, difference(a, b)));
  b.print.inf = 7;
  EXPECT_FALSE(above({1e9, 1e9}, Stage::attn_scores, difference(a, b)));
}

TEST(Metrics, CosineSaysDirectionAlone) {
  EXPECT_DOUBLE_EQ(*slice_cosine(std::vector<double>{1, 0}, std::vector<double>{1, 1}), std::sqrt(0.5));
  EXPECT_DOUBLE_EQ(*slice_cosine(std::vector<double>{1, 2}, std::vector<double>{10, 20}), 1.0);
  EXPECT_DOUBLE_EQ(*slice_cosine(std::vector<double>{1, 2}, std::vector<double>{-1, -2}), -1.0);
  EXPECT_FALSE(slice_cosine(std::vector<double>{0, 0}, std::vector<double>{1, 1}));
  EXPECT_FALSE(slice_cosine(std::vector<double>{kNan, 1}, std::vector<double>{1, 1}));
}

TEST(Metrics, TheSketchGivesTheNormOfTheDifference) {
  EXPECT_DOUBLE_EQ(*sketch_norm(std::vector<double>{1, 1}, std::vector<double>{4, 5}), 5.0);
  EXPECT_FALSE(sketch_norm({}, {}));
  EXPECT_FALSE(sketch_norm(std::vector<double>{1}, std::vector<double>{1, 2}));
}

TEST(Metrics, RelativeRmsPrefersTheSketchAndSaysWhereItIsFrom) {
  StageRecord a = row({3, 4, 0, 0}), b = row({3, 4, 0, 1}, Stage::mlp_out, 2);
  Difference d = difference(a, b);
  EXPECT_EQ(d.rms_from, RmsFrom::slice);
  EXPECT_DOUBLE_EQ(*d.rms, 0.5);
  EXPECT_DOUBLE_EQ(*d.rel, 0.5 / 2.5);
  a.print.sketch = {0, 0};
  b.print.sketch = {0, 3};
  d = difference(a, b);
  EXPECT_EQ(d.rms_from, RmsFrom::sketch);
  EXPECT_DOUBLE_EQ(*d.rms, 1.5);
  a.print.sample = a.print.sketch = b.print.sample = b.print.sketch = {};
  d = difference(a, b);
  EXPECT_EQ(d.rms_from, RmsFrom::statistics);
  EXPECT_DOUBLE_EQ(*d.rms, 0.25);  // the means, 1.75 and 2, differ by more than the RMS
  EXPECT_FALSE(d.mae);
}

TEST(Metrics, ADifferenceBeyondTheSliceIsSeenByTheSketchAlone) {
  StageRecord a = row({1, 1}), b = row({1, 1}, Stage::mlp_out, 2);
  a.print.count = b.print.count = 4096;
  a.print.sketch = {5, 5};
  b.print.sketch = {5, 6};
  const Difference d = difference(a, b);
  EXPECT_EQ(d.mae, 0.0);
  EXPECT_GT(*d.rel, 1e-3);
  EXPECT_TRUE(above({}, Stage::mlp_out, d));
}

TEST(Metrics, EqualityIsOfHashesNotOfSlices) {
  EXPECT_TRUE(difference(row({1, 2}), row({1, 2})).bit_equal);
  EXPECT_FALSE(difference(row({1, 2}), row({1, 2}, Stage::mlp_out, 2)).bit_equal);
  StageRecord a = row({1, 2}), b = row({1, 2}, Stage::mlp_out, 2);
  b.print.whole_row = false;  // another engine's line without a hash
  const Difference d = difference(a, b);
  EXPECT_TRUE(d.bit_equal);
  EXPECT_FALSE(d.hashed);
  b.print.sample[1] = 3;
  EXPECT_FALSE(difference(a, b).bit_equal);
}

TEST(Metrics, RowsOfDifferentLengthAreAboveAnyThreshold) {
  const Difference d = difference(row({1, 2}), row({1, 2, 3}, Stage::mlp_out, 2));
  EXPECT_TRUE(d.counts_differ);
  EXPECT_TRUE(above({1e9, 1e9}, Stage::mlp_out, d));
}

TEST(Metrics, ThresholdsAreExceededNotMet) {
  Difference d;
  d.mae = 1e-6;
  d.rms = 2e-6;
  d.rel = 1e-6;
  EXPECT_FALSE(above({1e-6, 1e-6}, Stage::mlp_out, d));
  d.rel = 1.0001e-6;
  EXPECT_TRUE(above({1e-6, 1e-6}, Stage::mlp_out, d));
  d.rel = 0;
  d.mae = 1.0001e-6;
  EXPECT_TRUE(above({1e-6, 1e-6}, Stage::mlp_out, d));
  d.bit_equal = true;
  EXPECT_FALSE(above({1e-6, 1e-6}, Stage::mlp_out, d));
}

TEST(Metrics, ProbabilitiesAreJudgedAbsolutely) {
  Difference d;
  d.mae = 1e-8;
  d.rms = 5e-7;
  d.rel = 1e-3;  // of a row of tiny probabilities
  EXPECT_FALSE(above({}, Stage::attn_probs, d));
  EXPECT_TRUE(above({}, Stage::attn_out, d));
}

TEST(Metrics, RelativeErrorIsUndefinedAtRmsZero) {
  const Difference d = difference(row({0, 0}), row({0, 1e-3}, Stage::mlp_out, 2));
  EXPECT_FALSE(d.rel);
  EXPECT_TRUE(judged_absolutely(Stage::mlp_out, d));
  EXPECT_TRUE(above({}, Stage::mlp_out, d));
}

TEST(Metrics, NanAndInfinityCountAgainstBAlone) {
  EXPECT_TRUE(above({}, Stage::q, difference(row({1, 2}), row({1, kNan}, Stage::q, 2))));
  EXPECT_TRUE(above({}, Stage::q, difference(row({1, 2}), row({1, kInf}, Stage::q, 2))));
  EXPECT_FALSE(above({}, Stage::q, difference(row({1, kNan}), row({1, 2}, Stage::q, 2))));
}

TEST(Metrics, AllZeroOnBothSidesIsNoted) {
  EXPECT_TRUE(difference(row({0, 0}), row({0, 0})).all_zero);
  EXPECT_FALSE(difference(row({0, 0}), row({0, 1})).all_zero);
}

}  // namespace
}  // namespace greta::isolate
