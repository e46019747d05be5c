// How a stage amplifies the difference of its input.
#include "isolate/gain.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "trace/fingerprint.h"

namespace greta::isolate {
namespace {

StageRecord row(Stage stage, int layer, std::vector<float> values) {
  StageRecord record;
  record.stage = stage;
  record.layer = layer;
  record.position = 4;
  record.dtype = DType::f32;
  FingerprintOptions options;
  options.sketch = false;  // the slice holds every element, so that the RMS is exact
  record.print = fingerprint(reinterpret_cast<const std::byte*>(values.data()), DType::f32,
                             static_cast<std::int64_t>(values.size()), options);
  return record;
}

const StageGain* of(const std::vector<StageGain>& all, Stage stage) {
  const auto found = std::find_if(all.begin(), all.end(), [&](const StageGain& one) { return one.stage == stage; });
  return found == all.end() ? nullptr : &*found;
}

/// x_in differs by 1 % of its RMS, attn_norm by 3 %: a gain of 3. ffn_norm is equal and is left out.
TEST(Gain, IsTheQuotientOfRelativeDifferences) {
  Capture a, b;
  for (int layer = 0; layer < 3; ++layer) {
    a.records.push_back(row(Stage::x_in, layer, {100, 100, -100, 100}));
    b.records.push_back(row(Stage::x_in, layer, {101, 99, -101, 101}));
    a.records.push_back(row(Stage::attn_norm, layer, {1, 1, 1, 1}));
    b.records.push_back(row(Stage::attn_norm, layer, {1.03f, 0.97f, 1.03f, 1.03f}));
    a.records.push_back(row(Stage::ffn_norm, layer, {2, 2, 2, 2}));
    b.records.push_back(row(Stage::ffn_norm, layer, {2, 2, 2, 2}));
  }
  const std::vector<StageGain> found = gains(a, b, 4);
  const StageGain* norm = of(found, Stage::attn_norm);
  ASSERT_NE(norm, nullptr);
  EXPECT_NEAR(norm->rel, 0.03, 1e-6);
  EXPECT_NEAR(norm->gain, 3, 1e-4);
  EXPECT_EQ(norm->layers, 3);
  EXPECT_EQ(of(found, Stage::ffn_norm), nullptr);
  EXPECT_EQ(of(found, Stage::q), nullptr);
  EXPECT_TRUE(gains(a, a, 4).empty());
  EXPECT_TRUE(gains(a, b, 3).empty());
}

}  // namespace
}  // namespace greta::isolate
