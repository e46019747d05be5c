// The split pattern of Llama 3, case by case: every alternative, and where Unicode matters.
#include "model/tokenizer_pretoken.h"

#include <gtest/gtest.h>

#include "tests/model/tokenizer_support.h"
#include "tests/support/one_line_error.h"

namespace greta {
namespace {

using Words = std::vector<std::string>;

Words words(std::string_view text) {
  static const Pretokenizer pretokenizer("llama-bpe", "test.gguf");
  Words out;
  for (const std::string_view word : pretokenizer.split(text)) out.emplace_back(word);
  return out;
}

TEST(Pretokenizer, Words) {
  EXPECT_EQ(words("Hello world"), (Words{"Hello", " world"}));
  EXPECT_EQ(words("(apple"), (Words{"(apple"}));  // any one character before letters
  EXPECT_EQ(words("\u043D\u0435 \u4F60\u597D"), (Words{"\u043D\u0435", " \u4F60\u597D"}));
  EXPECT_EQ(words(""), Words{});
}

TEST(Pretokenizer, Contractions) {
  EXPECT_EQ(words("don't we'LL I'Ve"), (Words{"don", "'t", " we", "'LL", " I", "'Ve"}));
  EXPECT_EQ(words("'told"), (Words{"'t", "old"}));  // wherever they stand
  for (const char* suffix : {"'s", "'S", "'t", "'T", "'re", "'Re", "'RE", "'ve", "'vE", "'m", "'M", "'ll", "'LL", "'d", "'D"}) {
    EXPECT_EQ(words(suffix + std::string("xyz")), (Words{suffix, "xyz"}));
  }
  EXPECT_EQ(words("'x"), (Words{"'x"}));
  EXPECT_EQ(words("'\u017Fa"), (Words{"'\u017Fa"}));  // the long s is no s
}

TEST(Pretokenizer, Digits) {
  EXPECT_EQ(words("1234567"), (Words{"123", "456", "7"}));
  EXPECT_EQ(words("a1 22"), (Words{"a", "1", " ", "22"}));
  EXPECT_EQ(words("\u00BD\u0663"), (Words{"\u00BD\u0663"}));  // a fraction and an Arabic digit
}

TEST(Pretokenizer, Punctuation) {
  EXPECT_EQ(words("hi!!\n\nyo"), (Words{"hi", "!!\n\n", "yo"}));
  EXPECT_EQ(words(" =\t+"), (Words{" =", "\t", "+"}));
  EXPECT_EQ(words("\u180E\u180E!"), (Words{"\u180E\u180E!"}));  // Mongolian vowel separator: no space since Unicode 6.3
}

TEST(Pretokenizer, Space) {
  EXPECT_EQ(words("a   b"), (Words{"a", "  ", " b"}));
  EXPECT_EQ(words("a   "), (Words{"a", "   "}));
  EXPECT_EQ(words("a \n \n  b"), (Words{"a", " \n \n", " ", " b"}));
  EXPECT_EQ(words("\t\tb"), (Words{"\t", "\tb"}));
  EXPECT_EQ(words("a\u3000\u3000!"), (Words{"a", "\u3000", "\u3000", "!"}));  // an ideographic space joins letters only
  EXPECT_EQ(words("a\u0085\u00A0b"), (Words{"a", "\u0085", "\u00A0b"}));
}

TEST(Pretokenizer, ZeroBytesAreCharacters) {
  EXPECT_EQ(words(std::string_view("a\0b", 3)), (Words{"a", std::string("\0b", 2)}));
}

TEST(Pretokenizer, WordsAreTheWholeText) {
  EXPECT_TRUE(rc::check("joined words are the text", [] {
    const std::string text = *utf8_text();
    std::string joined;
    for (const std::string& word : words(text)) joined += word;
    RC_ASSERT(joined == text);
  }));
}

TEST(Pretokenizer, RunsOfManyMegabytes) {
  const std::string spaces(12 << 20, ' ');
  EXPECT_EQ(words(spaces + "a").size(), 2u);
}

TEST(Pretokenizer, UnknownOnesAreNamed) {
  for (const char* known : {"llama3", "llama-v3", "gpt-2", "qwen2", "smollm", "default", "deepseek-r1-qwen", "starcoder"}) {
    EXPECT_NO_THROW(Pretokenizer(known, "test.gguf")) << known;
  }
  test::expect_error([] { Pretokenizer("gpt-3\nx", "test.gguf"); },
                     {"test.gguf: pre-tokeniser 'gpt-3\\x0ax' is not known; known: llama-bpe, gpt-2, qwen2, smollm, default, llama3"});
}

TEST(Pretokenizer, Aliases) {
  const auto name = [](const char* pre) { return Pretokenizer::canonical(pre).value_or("none"); };
  EXPECT_EQ(name("llama3"), "llama-bpe");
  EXPECT_EQ(name("phi-2"), "gpt-2");
  EXPECT_EQ(name("megrez"), "qwen2");
  EXPECT_EQ(name("starcoder"), "smollm");
  EXPECT_EQ(name("default"), "default");
  EXPECT_EQ(name("dbrx"), "none");
  EXPECT_EQ(name(""), "none");
}

}  // namespace
}  // namespace greta
