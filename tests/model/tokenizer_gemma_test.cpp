// What Gemma's SentencePiece vocabularies have that Llama's have not: no space before the text, user-defined runs of spaces and
// tags, and bytes for what is no token.
#include <gtest/gtest.h>

#include "tests/model/tokenizer_support.h"

namespace greta {
namespace {

using Ids = std::vector<TokenId>;

/// <pad> 0, <eos> 1, <bos> 2, <unk> 3, bytes from 4, then text from 260.
TestVocabulary gemma() {
  TestVocabulary v;
  v.add("<pad>", 0, kControl), v.data.eos = v.add("<eos>", 0, kControl), v.data.bos = v.add("<bos>", 0, kControl);
  v.add("<unk>", 0, kUnknown);
  v.add_bytes();
  v.add("a"), v.add("b"), v.add("\u2581");  // 260 261 262
  v.add("\u2581a", -1);                     // 263
  v.add("  ", 0, kUserDefined);             // 264
  v.add("    ", 0, kUserDefined);           // 265
  v.add("<b>", 0, kUserDefined);            // 266
  v.add("<start_of_turn>", 0, kControl);    // 267
  v.add("<end_of_turn>", 0, kControl);      // 268
  v.data.add_bos = true;
  v.data.add_space_prefix = false;
  return v;
}

TEST(GemmaTokenizer, NoSpaceIsAddedOrTakenAway) {
  const auto t = gemma().make();
  EXPECT_EQ(t->encode("a a", true, true), (Ids{2, 260, 263}));
  EXPECT_EQ(t->encode("<start_of_turn>a<end_of_turn>", true, true), (Ids{2, 267, 260, 268}));
  EXPECT_EQ(t->decode({2, 263, 260}), " aa");
  for (const TokenId id : {1, 268}) EXPECT_TRUE(t->ends_generation(id));
}

TEST(GemmaTokenizer, UserDefinedRunsOfSpaces) {
  const auto t = gemma().make();
  EXPECT_EQ(t->encode("a  b", false, false), (Ids{260, 264, 261}));
  EXPECT_EQ(t->encode("     a", false, false), (Ids{265, 263}));        // four, and the fifth is the word's
  EXPECT_EQ(t->encode("      a", false, false), (Ids{265, 264, 260}));  // four and two
  EXPECT_EQ(t->encode("<b>a</b>", false, false), (Ids{266, 260, 4 + '<', 4 + '/', 261, 4 + '>'}));
  for (const char* text : {"a  b", "     a", "      a", "<b>a</b> ", "  "})
    EXPECT_EQ(t->decode(t->encode(text, true, true)), text);
}

TEST(GemmaTokenizer, BytesOfWhatIsNoToken) {
  const auto t = gemma().make();
  EXPECT_EQ(t->encode("\u00E9\n", false, false), (Ids{4 + 0xC3, 4 + 0xA9, 4 + '\n'}));
  EXPECT_EQ(t->decode({4 + 0xC3, 4 + 0xA9}), "\u00E9");
}

TEST(GemmaTokenizer, RandomTextsComeBackWhole) {
  const auto t = gemma().make();
  EXPECT_TRUE(rc::check("decode(encode(text)) == text", [&] {
    const std::string text = *utf8_text({0x2581});
    RC_ASSERT(t->decode(t->encode(text, true, false)) == text);
  }));
}

}  // namespace
}  // namespace greta
