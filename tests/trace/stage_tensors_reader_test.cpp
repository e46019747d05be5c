// Stages kept whole come back as they were written, and what is none of theirs is named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "core/error.h"
#include "tests/trace/support.h"
#include "trace/safetensors.h"

namespace greta {
namespace {

using ::testing::HasSubstr;

std::vector<std::byte> bytes_of(const std::vector<float>& values) {
  std::vector<std::byte> out(values.size() * sizeof(float));
  std::memcpy(out.data(), values.data(), out.size());
  return out;
}

class StageTensorsReader : public ::testing::Test {
 protected:
  std::string refusal(std::int32_t n_layers) const {
    try {
      (void)read_stage_tensors(file_, n_layers);
    } catch (const Error& error) {
      return error.what();
    }
    return "";
  }
  const test::TempDir folder_;
  const std::filesystem::path file_ = folder_.path() / "rows.safetensors";
};

TEST_F(StageTensorsReader, GivesBackWhatWasWritten) {
  const auto norm0 = bytes_of({1, 2, 3}), norm2 = bytes_of({4, 5, 6});
  const auto probs0 = bytes_of({1, 1}), probs1 = bytes_of({0.25f, 0.75f, 0.5f, 0.5f});
  const auto logits = bytes_of({7, 8});
  const std::vector<StageTensor> stages{{1, Stage::ffn_norm, DType::f32, {0, 2}, {norm0, norm2}},
                                        {0, Stage::attn_probs, DType::f32, {0, 1}, {probs0, probs1}},
                                        {3, Stage::logits, DType::f32, {1}, {logits}}};
  const std::vector<std::int32_t> tokens{1, 2, 3};
  write_stage_tensors(file_, stages, 2, tokens);
  const std::vector<StoredStage> read = read_stage_tensors(file_, 3);
  ASSERT_EQ(read.size(), 3u);
  for (const StoredStage& one : read) {
    const auto written = std::find_if(stages.begin(), stages.end(), [&](const StageTensor& s) { return s.stage == one.stage; });
    ASSERT_NE(written, stages.end());
    EXPECT_EQ(one.layer, written->layer);
    EXPECT_EQ(one.dtype, DType::f32);
    ASSERT_EQ(one.rows.size(), written->rows.size());
    for (std::size_t r = 0; r < written->rows.size(); ++r) {
      const std::vector<std::byte> wanted(written->rows[r].begin(), written->rows[r].end());
      EXPECT_EQ(one.rows.at(written->positions[r]), wanted) << name(one.stage) << " " << r;
    }
  }
}

TEST_F(StageTensorsReader, NamesWhatIsNoStage) {
  const auto write = [&](const TensorSpec& spec) {
    SafetensorsWriter writer(file_, {spec});
    writer.append(std::vector<std::byte>(static_cast<std::size_t>(spec.elements() * size_of(spec.type))));
    writer.finish();
  };
  write({"0.nonsense", TensorType::f32, {1, 4}});
  EXPECT_THAT(refusal(2), HasSubstr("no stage has this name"));
  write({"5.ffn_norm", TensorType::f32, {1, 4}});
  EXPECT_THAT(refusal(2), HasSubstr("its layer is not one of 0..1"));
  write({"0.logits", TensorType::f32, {1, 4}});
  EXPECT_THAT(refusal(2), HasSubstr("no stage has this name"));
  write({"0.ffn_norm", TensorType::i64, {1, 4}});
  EXPECT_THAT(refusal(2), HasSubstr("wanted floating-point numbers"));
  write({"0.ffn_norm", TensorType::f32, {4}});
  EXPECT_THAT(refusal(2), HasSubstr("1 dimensions, wanted 2"));
  write({"0.attn_probs", TensorType::f32, {3, 2, 2}});
  EXPECT_THAT(refusal(2), HasSubstr("2 keys for position 2"));
}

}  // namespace
}  // namespace greta
