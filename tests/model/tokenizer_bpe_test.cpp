// Byte-level BPE on small vocabularies whose answers follow by hand.
#include "model/tokenizer_bpe.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/model/tokenizer_support.h"

namespace greta {
namespace {

using Ids = std::vector<TokenId>;

/// The 256 bytes (ids 0 to 255), then the tokens of `merges` in order.
TestVocabulary byte_level(const std::vector<std::string>& merges) {
  TestVocabulary v;
  v.data.model = "gpt2";
  for (const std::string& symbol : byte_level_alphabet()) v.add(symbol);
  v.merges = merges;
  const auto add = [&](const std::string& token) {
    if (std::find(v.tokens.begin(), v.tokens.end(), token) == v.tokens.end()) v.add(token);
  };
  for (const std::string& merge : merges) {
    const std::string left = merge.substr(0, merge.find(' ')), right = merge.substr(merge.find(' ') + 1);
    for (const std::string& token : {left, right, left + right}) add(token);
  }
  return v;
}

// GPT-2's table: '!' to '~' and two ranges of Latin-1 stand for themselves, the other 68 bytes for U+0100 to U+0143 in order.
TEST(BpeTokenizer, AlphabetOfBytes) {
  const auto& alphabet = byte_level_alphabet();
  EXPECT_EQ(alphabet['A'], "A");
  EXPECT_EQ(alphabet[0x00], "\u0100");
  EXPECT_EQ(alphabet[' '], "\u0120");
  EXPECT_EQ(alphabet['\n'], "\u010A");
  EXPECT_EQ(alphabet[0x7F], "\u0121");
  EXPECT_EQ(alphabet[0xA0], "\u0142");
  EXPECT_EQ(alphabet[0xAD], "\u0143");
  EXPECT_EQ(alphabet[0xFF], "\u00FF");
}

TEST(BpeTokenizer, LowestRankFirst) {
  auto v = byte_level({"b c", "a b", "ab c"});  // 256 257 258
  const auto t = v.make();
  EXPECT_EQ(t->encode("xab", false, false), (Ids{'x', 257}));
  EXPECT_EQ(t->encode("xabc", false, false), (Ids{'x', 'a', 256}));  // bc goes first, and a has no merge with it
  EXPECT_FALSE(t->adds_space_prefix());
}

TEST(BpeTokenizer, OfEqualMergesTheLeftmost) {
  auto v = byte_level({"a a"});
  EXPECT_EQ(v.make()->encode("xaaa", false, false), (Ids{'x', 256, 'a'}));
}

TEST(BpeTokenizer, AWholeWordThatIsATokenWinsOverItsMerges) {
  auto v = byte_level({"b c", "a b", "ab c"});
  EXPECT_EQ(v.make()->encode("abc", false, false), (Ids{258}));  // the merges alone would give a bc
  EXPECT_EQ(v.make()->encode("abcd", false, false), (Ids{'a', 256, 'd'}));
}

TEST(BpeTokenizer, BytesOfCharactersAndSpaces) {
  auto v = byte_level({"\u0120 a"});  // 256: " a"
  const auto t = v.make();
  EXPECT_EQ(t->encode("\u20AC a", false, false), (Ids{0xE2, 0x82, 0xAC, 256}));
  EXPECT_EQ(t->decode({0xE2, 0x82, 0xAC, 256}), "\u20AC a");
  EXPECT_EQ(t->decode({256}), " a");
}

// tokenizer.json's `ignore_merges` is Llama 3's alone.
TEST(BpeTokenizer, OtherPretokenisersMergeWholeWordsToo) {
  for (const char* pre : {"gpt-2", "qwen2", "smollm", "default"}) {
    auto v = byte_level({"b c", "a b", "ab c"});
    v.data.pre = pre;
    EXPECT_EQ(v.make()->encode("abc", false, false), (Ids{'a', 256})) << pre;
  }
}

TEST(BpeTokenizer, BosByDefaultIsLlama3s) {
  for (const auto& [pre, wanted] : {std::pair("llama-bpe", true), std::pair("falcon3", true), std::pair("gpt-2", false),
                                    std::pair("qwen2", false), std::pair("smollm", false)}) {
    auto v = byte_level({});
    v.data.pre = pre;
    v.data.bos = v.add("<|endoftext|>", 0, kControl);
    EXPECT_EQ(v.make()->add_bos(), wanted) << pre;
    v.data.add_bos = !wanted;
    EXPECT_EQ(v.make()->add_bos(), !wanted) << pre;
  }
}

TEST(BpeTokenizer, AMergeIntoATokenThatIsNoTextIsItsBytes) {
  auto v = byte_level({"a b"});
  v.types[256] = kControl;
  EXPECT_EQ(v.make()->encode("xab", false, false), (Ids{'x', 'a', 'b'}));
}

TEST(BpeTokenizer, AByteWithoutAToken) {
  auto v = byte_level({});
  v.tokens['b'] = "bb";
  v.data.unknown = 'u';
  EXPECT_EQ(v.make()->encode("xab", false, false), (Ids{'x', 'a', 'u'}));
  v.data.unknown.reset();
  const auto t = v.make();
  EXPECT_THROW(t->encode("xab", false, false), Error);
}

TEST(BpeTokenizer, OfAMergeGivenTwiceTheFirstCounts) {
  auto v = byte_level({"a b", "b c"});
  v.merges = {"a b", "b c", "a b"};
  EXPECT_EQ(v.make()->encode("xabc", false, false), (Ids{'x', 256, 'c'}));
}

TEST(BpeTokenizer, AgainstTheDefinition) {
  // The definition: again and again, of all neighbours with a merge, join the ones of the lowest rank, the leftmost first.
  EXPECT_TRUE(rc::check("queue-driven merges are the definition's", [] {
    const auto symbol = rc::gen::resize(3, rc::gen::nonEmpty(rc::gen::container<std::string>(rc::gen::element('a', 'b', 'c'))));
    const auto pairs = *rc::gen::container<std::vector<std::pair<std::string, std::string>>>(rc::gen::pair(symbol, symbol));
    std::vector<std::string> merges;
    for (const auto& [left, right] : pairs) {
      const std::string merge = left + " " + right;
      if (std::find(merges.begin(), merges.end(), merge) == merges.end()) merges.push_back(merge);
    }
    auto v = byte_level(merges);
    const auto text = *rc::gen::container<std::string>(rc::gen::element('a', 'b', 'c'));
    const auto id_of = [&](const std::string& s) {
      return static_cast<TokenId>(std::find(v.tokens.begin(), v.tokens.end(), s) - v.tokens.begin());
    };
    std::vector<std::string> parts;
    for (const char c : text) parts.emplace_back(1, c);
    while (id_of(text) == static_cast<TokenId>(v.tokens.size())) {  // else the whole word is a token
      std::size_t best = 0, best_rank = merges.size();
      for (std::size_t i = 0; i + 1 < parts.size(); ++i) {
        const auto found = std::find(merges.begin(), merges.end(), parts[i] + " " + parts[i + 1]);
        const auto rank = static_cast<std::size_t>(found - merges.begin());
        if (rank < best_rank) best = i, best_rank = rank;
      }
      if (best_rank == merges.size()) break;
      parts[best] += parts[best + 1];
      parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
    Ids want;
    if (!text.empty() && id_of(text) < static_cast<TokenId>(v.tokens.size())) {
      want = {id_of(text)};
    } else {
      for (const std::string& part : parts) want.push_back(id_of(part));
    }
    RC_ASSERT(v.make()->encode(text, false, false) == want);
  }));
}

TEST(BpeTokenizer, RandomTextsComeBackWhole) {
  auto v = byte_level({"a b", "\u0120 a", "\u0120a b", "\u00E2 \u0124", "0 7"});
  const auto t = v.make();
  EXPECT_TRUE(rc::check("decode(encode(text)) == text", [&] {
    const std::string text = *utf8_text();
    RC_ASSERT(t->decode(t->encode(text, true, true)) == text);
  }));
}

TEST(BpeTokenizer, AMegabyteWithoutASpaceAndOneOfSpaces) {
  auto v = byte_level({"a a", "aa aa", "aaaa aaaa"});
  const auto t = v.make();
  const std::string word(1 << 20, 'a'), spaces(1 << 20, ' ');
  EXPECT_EQ(t->encode(word, false, false), Ids((1 << 20) / 8, 258));
  EXPECT_EQ(t->encode(spaces + "a", false, false).size(), spaces.size() + 1);
}

}  // namespace
}  // namespace greta
