#include "trace/name_map.h"

#include <gtest/gtest.h>

#include "support.h"

namespace greta {
namespace {

TEST(NameMap, FindsExactNamesThenPatternsThenOurOwn) {
  NameMap map;
  map.add("l_out", "x_out");
  map.add("blk.{layer}.ffn_norm", "ffn_norm");
  map.add("blk.7.ffn_norm", "mlp_out");
  map.add("{layer}", "q");
  map.add("norm-{layer}", "attn_norm");
  EXPECT_EQ(map.find("l_out")->stage, Stage::x_out);
  EXPECT_EQ(map.find("l_out")->layer, std::nullopt);
  EXPECT_EQ(map.find("blk.12.ffn_norm")->stage, Stage::ffn_norm);
  EXPECT_EQ(map.find("blk.12.ffn_norm")->layer, 12);
  EXPECT_EQ(map.find("blk.7.ffn_norm")->stage, Stage::mlp_out);
  EXPECT_EQ(map.find("norm-0")->layer, 0);
  EXPECT_EQ(map.find("31")->stage, Stage::q);
  EXPECT_EQ(map.find("ffn_norm")->stage, Stage::ffn_norm);
  for (const char* unknown : {"", "blk..ffn_norm", "blk.x.ffn_norm", "blk.-1.ffn_norm", "blk.1.ffn_norm.weight", "norm-",
                              "L_OUT", "blk.99999999999.ffn_norm", "blk.ffn_norm"})
    EXPECT_FALSE(map.find(unknown)) << unknown;
}

TEST(NameMap, RefusesWhatCannotBeMeant) {
  NameMap map;
  map.add("a", "x_out");
  map.add("a", "x_out");  // said twice, meant once
  EXPECT_NE(test::error_of([&] { map.add("a", "x_in"); }).find("both"), std::string::npos);
  EXPECT_NE(test::error_of([&] { map.add("b", "fn_norm"); }).find("'ffn_norm'"), std::string::npos);
  EXPECT_NE(test::error_of([&] { map.add("", "x_in"); }), "");
  EXPECT_NE(test::error_of([&] { map.add("{layer}.{layer}", "x_in"); }).find("twice"), std::string::npos);
}

}  // namespace
}  // namespace greta
