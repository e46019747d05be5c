// Special tokens in the text, BOS and EOS around it.
#include "model/tokenizer_special.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "tests/model/tokenizer_support.h"

namespace greta {
namespace {

using Ids = std::vector<TokenId>;

/// 0 <unk>, 1 <s>, 2 </s>, 3 <ud> (user-defined), 4 <0x00> ..., 260 "a", 261 space, 262 "_a".
TestVocabulary with_specials() {
  TestVocabulary v;
  v.add("<unk>", 0, kUnknown);
  v.add("<s>", 0, kControl);
  v.add("</s>", 0, kControl);
  v.add("<ud>", 0, kUserDefined);
  v.add_bytes();
  v.add("a");
  v.add("\u2581");
  v.add("\u2581a", -1);
  return v;
}
constexpr TokenId kByte0 = 4, kA = 260, kSpaceA = 262;

TEST(SpecialTokens, ControlTokensOnlyWhereAsked) {
  const auto t = with_specials().make();
  EXPECT_EQ(t->encode("a</s>a", false, true), (Ids{kSpaceA, 2, kSpaceA}));  // a space prefix after a special token
  const Ids plain{kSpaceA, kByte0 + '<', kByte0 + '/', kByte0 + 's', kByte0 + '>', kA};
  EXPECT_EQ(t->encode("a</s>a", false, false), plain);
  EXPECT_EQ(t->decode(plain), "a</s>a");
}

TEST(SpecialTokens, UserDefinedTokensAlways) {
  const auto t = with_specials().make();
  for (const bool parse_special : {false, true}) {
    const Ids ids{kSpaceA, 3, kSpaceA};
    EXPECT_EQ(t->encode("a<ud>a", false, parse_special), ids);
    EXPECT_EQ(t->decode(ids), "a<ud>a");
  }
}

TEST(SpecialTokens, OnesThatTheVocabularyLacksAreText) {
  const auto t = with_specials().make();
  const std::string text = "<|eot_id|>";
  const Ids ids = t->encode(text, false, true);
  EXPECT_EQ(ids.size(), 1 + text.size());
  EXPECT_EQ(t->decode(ids), text);
}

TEST(SpecialTokens, ByteTokensAreNotFoundByTheirName) {
  const auto t = with_specials().make();
  EXPECT_EQ(t->encode("<0x41>", false, true).size(), 7u);
}

TEST(SpecialTokens, BosIsNeverDoubled) {
  const auto t = with_specials().make();
  EXPECT_TRUE(t->add_bos());
  EXPECT_EQ(t->encode("a", true, true), (Ids{1, kSpaceA}));
  EXPECT_EQ(t->encode("<s>a", true, true), (Ids{1, kSpaceA}));
  EXPECT_EQ(t->encode("<s><s>a", true, true), (Ids{1, 1, kSpaceA}));  // the text's own two
  EXPECT_EQ(t->encode("<s>", true, true), (Ids{1}));
  EXPECT_EQ(t->encode("", true, true), (Ids{1}));
  EXPECT_EQ(t->encode("<s>a", true, false).front(), 1);  // text that spells BOS is no BOS
  EXPECT_EQ(t->encode("<s>a", true, false).size(), 1 + 1 + 3 + 1u);
}

TEST(SpecialTokens, BosAndEosAsTheFileSays) {
  auto v = with_specials();
  v.data.add_bos = false;
  v.data.add_eos = true;
  EXPECT_EQ(v.make()->encode("a", true, true), (Ids{kSpaceA, 2}));
  EXPECT_EQ(v.make()->encode("a</s>", true, true), (Ids{kSpaceA, 2}));
  EXPECT_EQ(v.make()->encode("a", false, true), (Ids{kSpaceA}));
  v.data.add_bos.reset();
  EXPECT_EQ(v.make()->encode("", true, true), (Ids{1, 2}));
}

TEST(SpecialTokens, EndOfGeneration) {
  auto v = with_specials();
  v.add("<|im_end|>", 0, kControl);         // 263
  v.add("<|eot_id|>", 0, kNormal);          // 264: text that only spells it
  v.add("<end_of_turn>", 0, kUserDefined);  // 265
  v.data.eos = 3;
  v.data.eot = kA;
  const auto t = v.make();
  EXPECT_EQ(t->eos(), 3);
  for (const TokenId id : {2, 3, 260, 263, 265}) EXPECT_TRUE(t->ends_generation(id)) << id;
  for (const TokenId id : {0, 1, 4, 264, -1}) EXPECT_FALSE(t->ends_generation(id)) << id;
}

TEST(SpecialTokens, InvalidUtf8NamesTheOffset) {
  const auto t = with_specials().make();
  try {
    t->encode("ab\xFFz", true, true);
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_STREQ(e.what(), "the text is not UTF-8 at byte 2 (0xff); convert it to UTF-8");
  }
}

TEST(SpecialTokens, ATokenInsideACharacterIsNotFound) {
  TestVocabulary v;
  v.data.model = "gpt2";
  v.add("\xA9", 0, kUserDefined);
  const TokenId unknown = v.add("<unk>", 0, kUnknown);
  EXPECT_EQ(v.make()->encode("\u00E9", false, true), (Ids{unknown, unknown}));  // C3 A9: two bytes without tokens
}

/// The definition: for each length, the longest first, from left to right, cut a token of that length out of what is text.
std::vector<std::pair<std::string, TokenId>> split_by_definition(const Vocabulary& v, const std::string& text) {
  std::vector<std::pair<std::string, TokenId>> parts{{text, -1}};
  for (std::size_t length = text.size(); length > 0; --length) {
    for (std::size_t p = 0; p < parts.size(); ++p) {
      const std::string part = parts[p].first;
      if (parts[p].second >= 0) continue;
      for (std::size_t i = 0; i + length <= part.size(); ++i) {
        const TokenId id = v.find(part.substr(i, length));
        if (id < 0) continue;
        const auto at = parts.erase(parts.begin() + static_cast<std::ptrdiff_t>(p));
        parts.insert(at, {{part.substr(0, i), -1}, {part.substr(i, length), id}, {part.substr(i + length), -1}});
        break;  // what follows is a part of its own
      }
    }
  }
  std::erase_if(parts, [](const auto& part) { return part.first.empty(); });
  return parts;
}

TEST(SpecialTokens, LongestFirstAgainstTheDefinition) {
  EXPECT_TRUE(rc::check("split is the definition's", [] {
    const auto word = rc::gen::resize(5, rc::gen::nonEmpty(rc::gen::container<std::string>(rc::gen::element('a', 'b', 'c'))));
    TestVocabulary tokens;
    for (const std::string& text : *rc::gen::container<std::vector<std::string>>(word)) {
      if (std::find(tokens.tokens.begin(), tokens.tokens.end(), text) == tokens.tokens.end()) tokens.add(text, 0, kControl);
    }
    RC_PRE(!tokens.tokens.empty());
    const Vocabulary vocabulary(tokens.view(), false);
    const auto text = *rc::gen::container<std::string>(rc::gen::element('a', 'b', 'c', 'd'));
    std::vector<std::pair<std::string, TokenId>> parts;
    for (const Fragment& f : SpecialTokens(vocabulary, true).split(text)) parts.emplace_back(f.text, f.token);
    RC_ASSERT(parts == split_by_definition(vocabulary, text));
  }));
}

TEST(SpecialTokens, LongerTokenWinsOverOneThatBeginsBeforeIt) {
  TestVocabulary v;
  v.add("ab", 0, kUserDefined);   // 0
  v.add("bcd", 0, kUserDefined);  // 1
  v.add("a"), v.add("b"), v.add("c"), v.add("d");
  v.data.add_space_prefix = false;
  EXPECT_EQ(v.make()->encode("abcd", false, false), (Ids{2, 1}));
  EXPECT_EQ(v.make()->encode("abab", false, false), (Ids{0, 0}));
}

TEST(SpecialTokens, ManyTokensAndAMegabyteOfText) {
  TestVocabulary v;
  v.add("<unk>", 0, kUnknown);
  for (int i = 0; i < 20000; ++i) v.add(fmt::format("<|reserved_{}|>", i), 0, kControl);
  v.add(std::string(60000, '<'), 0, kControl);
  v.data.add_space_prefix = false;
  std::string text(1 << 20, '<');
  text += "<|reserved_777|>";
  const Ids ids = v.make()->encode(text, false, true);
  EXPECT_EQ(ids.back(), 778);
  EXPECT_EQ(std::count(ids.begin(), ids.end(), 20001), (1 << 20) / 60000);
}

}  // namespace
}  // namespace greta
