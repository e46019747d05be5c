#include "core/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace greta {
namespace {

/// As StreamDecoder and every reader of text replaces: one U+FFFD for each invalid subpart.
std::string replaced(std::string_view text) {
  std::string out;
  while (!text.empty()) {
    const Utf8Step step = utf8_step(text);
    out += step.kind == Utf8Step::Kind::valid ? std::string(text.substr(0, step.bytes)) : "?";
    text.remove_prefix(step.bytes);
  }
  return out;
}

// The Unicode Standard 15.0, section 3.9, tables 3-8 to 3-11: where U+FFFD goes.
TEST(Utf8, ReplacesMaximalSubparts) {
  EXPECT_EQ(replaced("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"), "????????A");
  EXPECT_EQ(replaced("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"), "????????A");
  EXPECT_EQ(replaced("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"), "?????A??B");
  EXPECT_EQ(replaced("\xE1\x80\xE2\xF0\x91\x92\xF1\xBF\x41"), "????A");
}

TEST(Utf8, FirstAndLastOfEveryLength) {
  for (const char* text : {"\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
                           "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF"}) {
    EXPECT_EQ(first_invalid_utf8(text), std::nullopt) << text;
    EXPECT_EQ(utf8_step(text).bytes, std::string_view(text).size());
  }
  EXPECT_EQ(first_invalid_utf8(std::string_view("\0", 1)), std::nullopt);
  EXPECT_EQ(first_invalid_utf8(""), std::nullopt);
}

TEST(Utf8, NamesTheOffset) {
  EXPECT_EQ(first_invalid_utf8("ab\xC3\xA9\xFFz"), 4u);
  EXPECT_EQ(first_invalid_utf8("ab\xE2\x82"), 2u);  // not complete
  EXPECT_EQ(utf8_step("\xE2\x82").kind, Utf8Step::Kind::incomplete);
  EXPECT_EQ(utf8_step("\xE2\x28").kind, Utf8Step::Kind::invalid);
}

}  // namespace
}  // namespace greta
