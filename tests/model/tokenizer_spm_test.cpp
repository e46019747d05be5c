// SentencePiece-style BPE on small vocabularies whose answers follow by hand.
#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/model/tokenizer_support.h"

namespace greta {
namespace {

using Ids = std::vector<TokenId>;

const std::string kSpace = "\u2581";

/// "abc" with scores: bc (-1) before ab (-2) before abc (-3).
TestVocabulary abc() {
  TestVocabulary v;
  v.add("<unk>", 0, kUnknown);  // 0
  v.add("a");                   // 1
  v.add("b");                   // 2
  v.add("c");                   // 3
  v.add("ab", -2);              // 4
  v.add("bc", -1);              // 5
  v.add("abc", -3);             // 6
  v.data.add_space_prefix = false;
  return v;
}

TEST(SpmTokenizer, HighestScoreFirst) {
  const auto t = abc().make();
  EXPECT_EQ(t->encode("ab", false, false), (Ids{4}));
  EXPECT_EQ(t->encode("abc", false, false), (Ids{6}));  // b c, then a bc
  EXPECT_EQ(t->encode("abcab", false, false), (Ids{6, 4}));
}

TEST(SpmTokenizer, AMergeThatOvertakesAnotherWins) {
  TestVocabulary v = abc();
  v.tokens[6] = "zzz";  // no abc: after bc nothing joins the a
  EXPECT_EQ(v.make()->encode("abc", false, false), (Ids{1, 5}));
}

TEST(SpmTokenizer, OfEqualScoresTheLeftmost) {
  TestVocabulary v;
  v.add("a");       // 0
  v.add("b");       // 1
  v.add("ab", -1);  // 2
  v.add("ba", -1);  // 3
  v.data.add_space_prefix = false;
  EXPECT_EQ(v.make()->encode("aba", false, false), (Ids{2, 0}));
  EXPECT_EQ(v.make()->encode("bab", false, false), (Ids{3, 1}));
}

TEST(SpmTokenizer, SpacesAreEscapedAndAPrefixIsAdded) {
  TestVocabulary v;
  v.add(kSpace);               // 0
  v.add("a");                  // 1
  v.add(kSpace + "a", -1);     // 2
  v.add(kSpace + kSpace, -2);  // 3
  const auto t = v.make();
  EXPECT_TRUE(t->adds_space_prefix());
  EXPECT_EQ(t->encode("a", false, false), (Ids{2}));
  EXPECT_EQ(t->encode("a a", false, false), (Ids{2, 2}));
  EXPECT_EQ(t->encode(" a", false, false), (Ids{0, 2}));
  EXPECT_EQ(t->encode("", false, false), Ids{});
  EXPECT_EQ(t->decode({2, 2}), "a a");
  EXPECT_EQ(t->decode({0, 2}), " a");
  v.data.add_space_prefix = false;
  EXPECT_EQ(v.make()->encode("a a", false, false), (Ids{1, 2}));
  EXPECT_EQ(v.make()->decode({2, 1}), " aa");  // nothing was added, nothing is taken away
}

TEST(SpmTokenizer, BytesOfACharacterThatIsNoToken) {
  TestVocabulary v;
  v.add("<unk>", 0, kUnknown);
  const TokenId byte0 = v.add_bytes();
  const TokenId a = v.add("a");
  v.data.add_space_prefix = false;
  const auto t = v.make();
  const Ids ids{a, byte0 + 0xE2, byte0 + 0x82, byte0 + 0xAC};
  EXPECT_EQ(t->encode("a\u20AC", false, false), ids);
  EXPECT_EQ(t->decode(ids), "a\u20AC");
  EXPECT_EQ(t->token_bytes(byte0 + 0xE2), "\xE2");
}

TEST(SpmTokenizer, WithoutByteTokensTheUnknownTokenOnceACharacter) {
  const auto t = abc().make();
  EXPECT_EQ(t->encode("a\u20ACb", false, false), (Ids{1, 0, 2}));
  EXPECT_EQ(t->decode({1, 0, 2}), "ab");
  TestVocabulary none;
  none.add("a");
  none.data.add_space_prefix = false;
  try {
    none.make()->encode("ab", false, false);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(),
                 "test.gguf: the vocabulary has no token for 'b' of the text and no unknown token; leave it out of the text");
  }
}

TEST(SpmTokenizer, TextDoesNotBecomeAControlOrByteToken) {
  TestVocabulary v;
  v.add("<unk>", 0, kUnknown);                  // 0
  v.add("<s>", 0, kControl);                    // 1
  v.add("<", 0), v.add("s", 0), v.add(">", 0);  // 2 3 4
  v.add("<s", -1);                              // 5
  v.data.add_space_prefix = false;
  EXPECT_EQ(v.make()->encode("<s>", false, false), (Ids{5, 4}));
  EXPECT_EQ(v.make()->encode("<s>", false, true), (Ids{1}));
}

TEST(SpmTokenizer, AgainstTheDefinition) {
  // The definition: again and again, of all neighbours that are a token together, join the ones with the highest score, of
  // equal ones the leftmost.
  EXPECT_TRUE(rc::check("queue-driven merges are the definition's", [] {
    TestVocabulary v;
    v.data.add_space_prefix = false;
    const auto letter = rc::gen::element<std::string>("a", "b", "c");
    for (const char* c : {"a", "b", "c"}) v.add(c);
    const auto words = *rc::gen::container<std::vector<std::string>>(
        rc::gen::resize(5, rc::gen::container<std::string>(rc::gen::element('a', 'b', 'c'))));
    for (const std::string& word : words) {
      if (std::find(v.tokens.begin(), v.tokens.end(), word) == v.tokens.end()) v.add(word, *rc::gen::inRange(-4, 0));
    }
    const auto text = *rc::gen::container<std::string>(rc::gen::element('a', 'b', 'c'));
    const auto id_of = [&](const std::string& s) {
      return static_cast<TokenId>(std::find(v.tokens.begin(), v.tokens.end(), s) - v.tokens.begin());
    };
    std::vector<std::string> parts;
    for (const char c : text) parts.emplace_back(1, c);
    for (;;) {
      std::size_t best = 0;
      double best_score = -1e9;
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto id = static_cast<std::size_t>(id_of(parts[i] + parts[i + 1]));
        if (id < v.tokens.size() && v.scores[id] > best_score) best = i, best_score = v.scores[id];
      }
      if (best_score == -1e9) break;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    Ids want;
    for (const std::string& part : parts) want.push_back(id_of(part));
    RC_ASSERT(v.make()->encode(text, false, false) == want);
  }));
}

TEST(SpmTokenizer, AMegabyteWithoutASpace) {
  TestVocabulary v = abc();
  for (std::size_t length = 4; length <= 1024; length *= 2) v.add(std::string(length, 'a'), -5);
  v.add("aa", -4);
  const std::string text(1 << 20, 'a');
  const Ids ids = v.make()->encode(text, false, false);
  EXPECT_EQ(ids.size(), 1024u);
  EXPECT_EQ(v.make()->decode(ids), text);
}

}  // namespace
}  // namespace greta
