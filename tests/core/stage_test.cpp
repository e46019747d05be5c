#include "core/stage.h"

#include <gtest/gtest.h>

namespace greta {
namespace {

TEST(StageCatalogue, NamesRoundTripInTheOrderOfData) {
  int index = 0;
  for (const Stage stage : all_stages()) {
    EXPECT_EQ(static_cast<int>(stage), index++);
    EXPECT_EQ(stage_from_name(name(stage)), stage);
  }
  EXPECT_EQ(index, kStageCount);
  EXPECT_EQ(name(Stage::x_in), "x_in");
  EXPECT_EQ(name(Stage::ffn_norm), "ffn_norm");
  EXPECT_EQ(name(Stage::logits), "logits");
  EXPECT_EQ(stage_from_name("ffn_nrom"), std::nullopt);
}

}  // namespace
}  // namespace greta
