// Streaming detokenisation: characters whole, invalid bytes as U+FFFD, the added space taken away.
#include <gtest/gtest.h>

#include "core/error.h"
#include "core/utf8.h"
#include "tests/model/tokenizer_support.h"

namespace greta {
namespace {

using Ids = std::vector<TokenId>;

/// Bytes are ids 0 to 255; 256 <s>, 257 "_the", 258 "_", 259 "x".
TestVocabulary bytes_and_words() {
  TestVocabulary v;
  v.add_bytes();
  v.add("<s>", 0, kControl);
  v.add("\u2581the");
  v.add("\u2581");
  v.add("x");
  return v;
}

std::vector<std::string> push_all(StreamDecoder& decoder, const Ids& ids) {
  std::vector<std::string> parts;
  for (const TokenId id : ids) parts.push_back(decoder.push(id));
  parts.push_back(decoder.finish());
  return parts;
}

TEST(StreamDecoder, ACharacterComesWhole) {
  const auto t = bytes_and_words().make();
  StreamDecoder decoder(*t);
  EXPECT_EQ(push_all(decoder, {'a', 0xF0, 0x9F, 0xA6, 0x99, 'b'}),
            (std::vector<std::string>{"a", "", "", "", "\U0001F999", "b", ""}));
}

TEST(StreamDecoder, InvalidBytesBecomeReplacementCharacters) {
  const auto t = bytes_and_words().make();
  StreamDecoder decoder(*t);
  EXPECT_EQ(push_all(decoder, {0xFF, 0xE2, 0x82, 'a', 0xC3}), (std::vector<std::string>{"\uFFFD", "", "",
                                                                                        "\uFFFD"
                                                                                        "a",
                                                                                        "", "\uFFFD"}));
  EXPECT_EQ(decoder.finish(), "");  // once
}

TEST(StreamDecoder, TheAddedSpaceOfTheFirstWordGoes) {
  const auto t = bytes_and_words().make();
  EXPECT_EQ(t->decode({257, 257}), "the the");
  EXPECT_EQ(t->decode({256, 257, 257}), "the the");
  EXPECT_EQ(t->decode({256, 257, 256, 257}, true), "<s>the<s>the");
  EXPECT_EQ(t->decode({258, 257}), " the");  // one space only
  EXPECT_EQ(t->decode({259, 257}), "x the");
}

TEST(StreamDecoder, AContinuationKeepsItsSpace) {
  const auto t = bytes_and_words().make();
  StreamDecoder decoder(*t, /*continues=*/true);
  EXPECT_EQ(decoder.push(257), " the");
}

TEST(StreamDecoder, ControlTokensOnlyWhereAsked) {
  const auto t = bytes_and_words().make();
  EXPECT_EQ(t->decode({256, 259}), "x");
  EXPECT_EQ(t->decode({256, 259}, true), "<s>x");
  EXPECT_EQ(t->token_bytes(256), "");
  EXPECT_EQ(t->token_bytes(256, true), "<s>");
}

TEST(StreamDecoder, IdsOutsideTheVocabularyAreErrors) {
  const auto t = bytes_and_words().make();
  for (const TokenId id : {-1, 260}) {
    StreamDecoder decoder(*t);
    EXPECT_THROW(decoder.push(id), Error);
  }
}

TEST(StreamDecoder, AnyBytesGiveUtf8AndValidOnesThemselves) {
  const auto t = bytes_and_words().make();
  EXPECT_TRUE(rc::check("bytes", [&] {
    const auto ids = *rc::gen::container<Ids>(rc::gen::inRange<TokenId>(0x40, 0x100));
    StreamDecoder decoder(*t);
    for (const std::string& part : push_all(decoder, ids)) RC_ASSERT(!first_invalid_utf8(part));
  }));
  EXPECT_TRUE(rc::check("valid text", [&] {
    const std::string text = *utf8_text();
    StreamDecoder decoder(*t, /*continues=*/true);
    std::string out;
    for (const char c : text) out += decoder.push(static_cast<unsigned char>(c));
    RC_ASSERT(out == text);
    RC_ASSERT(decoder.finish().empty());
  }));
}

}  // namespace
}  // namespace greta
