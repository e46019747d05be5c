#include "core/nearest.h"

#include <gtest/gtest.h>

#include <array>

namespace greta {
namespace {

constexpr std::array<std::string_view, 3> kKnown{"ffn_norm", "attn_norm", "logits"};

TEST(Nearest, FindsATypingError) {
  EXPECT_EQ(nearest("fnn_norm", kKnown), "ffn_norm");
  EXPECT_EQ(nearest("logit", kKnown), "logits");
}

TEST(Nearest, SaysNothingWhereNothingIsNear) {
  EXPECT_EQ(nearest("zzzzzzzzzz", kKnown), "");
  EXPECT_EQ(suggestion("zzzzzzzzzz", kKnown), "; known: ffn_norm, attn_norm, logits");
  EXPECT_EQ(suggestion("logit", kKnown), "; did you mean 'logits'; known: ffn_norm, attn_norm, logits");
}

}  // namespace
}  // namespace greta
