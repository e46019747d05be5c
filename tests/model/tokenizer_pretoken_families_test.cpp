// The pre-tokenisers gpt-2, qwen2, smollm and default: cases by hand from the published patterns, and all five against a
// splitter written here without regular expressions, on random text of characters whose classes are listed here.
#include <gtest/gtest.h>

#include <cstdio>
#include <random>

#include "model/tokenizer_pretoken.h"
#include "tests/model/tokenizer_support.h"

namespace greta {
namespace {

using Words = std::vector<std::string>;

Words words(const char* pre, std::string_view text) {
  const Pretokenizer pretokenizer(pre, "test.gguf");
  Words out;
  for (const std::string_view word : pretokenizer.split(text)) out.emplace_back(word);
  return out;
}

TEST(PretokenizerGpt2, Cases) {
  const auto gpt2 = [](std::string_view text) { return words("gpt-2", text); };
  EXPECT_EQ(gpt2("Hello world"), (Words{"Hello", " world"}));
  EXPECT_EQ(gpt2("I've, we'LL"), (Words{"I", "'ve", ",", " we", "'", "LL"}));  // small letters only
  EXPECT_EQ(gpt2("(apple"), (Words{"(", "apple"}));
  EXPECT_EQ(gpt2("in 1999, 12345678"), (Words{"in", " 1999", ",", " 12345678"}));
  EXPECT_EQ(gpt2("a1b"), (Words{"a", "1", "b"}));
  EXPECT_EQ(gpt2("hi!!\n\nyo"), (Words{"hi", "!!", "\n", "\n", "yo"}));  // line ends are space like any other
  EXPECT_EQ(gpt2("a   b  "), (Words{"a", "  ", " b", "  "}));
  EXPECT_EQ(gpt2("a\t\tb"), (Words{"a", "\t", "\t", "b"}));  // only U+0020 joins a word
  EXPECT_EQ(gpt2(" \u00BD \u4F60\u597D"), (Words{" \u00BD", " \u4F60\u597D"}));
  EXPECT_EQ(gpt2(""), Words{});
}

TEST(PretokenizerQwen2, DigitsOneByOne) {
  const auto qwen2 = [](std::string_view text) { return words("qwen2", text); };
  EXPECT_EQ(qwen2("Hello world! 123"), (Words{"Hello", " world", "!", " ", "1", "2", "3"}));
  EXPECT_EQ(qwen2("2024"), (Words{"2", "0", "2", "4"}));
  EXPECT_EQ(qwen2("I'Ve (apple"), (Words{"I", "'Ve", " (", "apple"}));
  EXPECT_EQ(qwen2("(apple"), (Words{"(apple"}));
  EXPECT_EQ(qwen2("hi!!\n\nyo\n \n x"), (Words{"hi", "!!\n\n", "yo", "\n \n", " x"}));
}

TEST(PretokenizerSmollm, DigitsFirstThenGpt2) {
  const auto smollm = [](std::string_view text) { return words("smollm", text); };
  EXPECT_EQ(smollm("Hello world! 123"), (Words{"Hello", " world", "!", " ", "1", "2", "3"}));
  EXPECT_EQ(smollm("  multiple   spaces"), (Words{" ", " multiple", "  ", " spaces"}));
  EXPECT_EQ(smollm("a  1"), (Words{"a", "  ", "1"}));  // the piece ends before the digit: its spaces stay together
  EXPECT_EQ(words("gpt-2", "a  1"), (Words{"a", " ", " 1"}));
  EXPECT_EQ(smollm("x'1s's"), (Words{"x", "'", "1", "s", "'s"}));
  EXPECT_EQ(smollm("\u0663\u00BDa"), (Words{"\u0663", "\u00BD", "a"}));
}

TEST(PretokenizerDefault, PunctuationGpt2NumbersAndThrees) {
  const auto by_default = [](std::string_view text) { return words("default", text); };
  EXPECT_EQ(by_default("cost: $12345 (net)"), (Words{"cost", ":", " ", "$", "123", "45", " ", "(", "net", ")"}));
  EXPECT_EQ(by_default("a 12 b"), (Words{"a", " ", "12", " b"}));
  EXPECT_EQ(by_default("I've"), (Words{"I", "'", "ve"}));  // the apostrophe is punctuation and goes first
  EXPECT_EQ(by_default("a+=b `c`"), (Words{"a", "+=", "b", " `", "c", "`"}));
}

// What follows is the oracle. Classes as in the Unicode Character Database: letters (L), numbers (N), white space, punctuation
// (P), others (symbols, marks, format characters, unassigned).
enum class Class { letter, number, space, punctuation, other };
struct Listed {
  char32_t c;
  Class kind;
};
const std::vector<Listed> kListed{
    {U'a', Class::letter},        {U's', Class::letter},      {U'S', Class::letter},      {U't', Class::letter},
    {U'r', Class::letter},        {U'e', Class::letter},      {U'E', Class::letter},      {U'v', Class::letter},
    {U'l', Class::letter},        {U'L', Class::letter},      {U'm', Class::letter},      {U'd', Class::letter},
    {0x17F, Class::letter},       {0xE9, Class::letter},      {0x434, Class::letter},     {0x4F60, Class::letter},
    {0x10400, Class::letter},     {0x2B0, Class::letter},     {U'0', Class::number},      {U'7', Class::number},
    {U'9', Class::number},        {0xBD, Class::number},      {0x663, Class::number},     {0x2167, Class::number},
    {0x1D7CE, Class::number},     {U' ', Class::space},       {U'\n', Class::space},      {U'\r', Class::space},
    {U'\t', Class::space},        {0xB, Class::space},        {0x85, Class::space},       {0xA0, Class::space},
    {0x2003, Class::space},       {0x2028, Class::space},     {0x3000, Class::space},     {U'\'', Class::punctuation},
    {U'.', Class::punctuation},   {U'(', Class::punctuation}, {U'_', Class::punctuation}, {0x2019, Class::punctuation},
    {0x3002, Class::punctuation}, {U'$', Class::other},       {U'+', Class::other},       {U'`', Class::other},
    {U'~', Class::other},         {U'|', Class::other},       {0, Class::other},          {0x301, Class::other},
    {0x180E, Class::other},       {0x200D, Class::other},     {0xFEFF, Class::other},     {0x1F600, Class::other},
    {0x10FFFF, Class::other}};

using Text = std::vector<Listed>;

/// A text from `begin` to `end`, the rest of which is not to be seen.
struct Piece {
  const Text& text;
  std::size_t begin, end;
  bool is(std::size_t i, Class kind) const { return i < end && text[i].kind == kind; }
  bool is_symbol(std::size_t i) const { return is(i, Class::punctuation) || is(i, Class::other); }
  bool is_line_end(std::size_t i) const { return i < end && (text[i].c == U'\n' || text[i].c == U'\r'); }
  char32_t at(std::size_t i) const { return i < end ? text[i].c : 0x110000; }
};

char32_t lower(char32_t c) { return c >= U'A' && c <= U'Z' ? c + 32 : c; }

/// Length of the contraction at `i`; 0: none.
std::size_t contraction(const Piece& p, std::size_t i, bool any_case) {
  if (p.at(i) != U'\'') return 0;
  const auto letter = [&](std::size_t k) { return any_case ? lower(p.at(k)) : p.at(k); };
  const char32_t first = letter(i + 1), second = letter(i + 2);
  if (first == U's' || first == U't' || first == U'm' || first == U'd') return 2;
  const bool two = (first == U'r' && second == U'e') || (first == U'v' && second == U'e') || (first == U'l' && second == U'l');
  return two ? 3 : 0;
}

template <class Is>
std::size_t run(std::size_t i, Is is) {
  while (is(i)) ++i;
  return i;
}

/// Where a run of space that begins at `i` is cut: before its last character where a word follows.
std::size_t space_end(const Piece& p, std::size_t i) {
  const std::size_t end = run(i, [&](std::size_t k) { return p.is(k, Class::space); });
  return end < p.end && end - i > 1 ? end - 1 : end;
}

std::size_t gpt2_end(const Piece& p, std::size_t i) {
  if (const std::size_t n = contraction(p, i, false); n > 0) return i + n;
  const std::size_t j = i + (p.at(i) == U' ' ? 1 : 0);
  if (p.is(j, Class::letter)) return run(j, [&](std::size_t k) { return p.is(k, Class::letter); });
  if (p.is(j, Class::number)) return run(j, [&](std::size_t k) { return p.is(k, Class::number); });
  if (p.is_symbol(j)) return run(j, [&](std::size_t k) { return p.is_symbol(k); });
  return space_end(p, i);
}

std::size_t llama3_end(const Piece& p, std::size_t i, std::size_t digits) {
  if (const std::size_t n = contraction(p, i, true); n > 0) return i + n;
  const auto letters = [&](std::size_t k) { return p.is(k, Class::letter); };
  if (letters(i)) return run(i, letters);
  if (!p.is_line_end(i) && !p.is(i, Class::number) && letters(i + 1)) return run(i + 1, letters);
  if (p.is(i, Class::number)) return run(i, [&](std::size_t k) { return k < i + digits && p.is(k, Class::number); });
  const std::size_t j = i + (p.at(i) == U' ' ? 1 : 0);
  if (p.is_symbol(j)) {
    const std::size_t end = run(j, [&](std::size_t k) { return p.is_symbol(k); });
    return run(end, [&](std::size_t k) { return p.is_line_end(k); });
  }
  for (std::size_t k = run(i, [&](std::size_t s) { return p.is(s, Class::space); }); k > i; --k)
    if (p.is_line_end(k - 1)) return k;
  return space_end(p, i);
}

using Bounds = std::vector<Piece>;

template <class End>
Bounds by_ends(const Bounds& pieces, End end_of) {
  Bounds out;
  for (const Piece& p : pieces) {
    for (std::size_t i = p.begin; i < p.end;) {
      const std::size_t end = end_of(p, i);
      out.push_back({p.text, i, end});
      i = end;
    }
  }
  return out;
}

/// Runs of `is` of at most `most` characters (in whole multiples where `exactly`) stand alone, and so does what is between
/// them.
template <class Is>
Bounds isolate_runs(const Bounds& pieces, std::size_t most, bool exactly, Is is) {
  const auto length_at = [&](const Piece& p, std::size_t i) {
    const std::size_t n = run(i, [&](std::size_t k) { return k < i + most && k < p.end && is(p.text[k]); }) - i;
    return exactly && n < most ? 0 : n;
  };
  return by_ends(pieces, [&](const Piece& p, std::size_t i) {
    if (const std::size_t n = length_at(p, i); n > 0) return i + n;
    std::size_t k = i;
    while (k < p.end && length_at(p, k) == 0) ++k;
    return k;
  });
}

Words oracle(const std::string& pre, const Text& text) {
  Bounds pieces;
  if (!text.empty()) pieces.push_back({text, 0, text.size()});
  const auto number = [](const Listed& c) { return c.kind == Class::number; };
  constexpr std::size_t kAny = 1 << 20;
  if (pre == "llama-bpe") pieces = by_ends(pieces, [](const Piece& p, std::size_t i) { return llama3_end(p, i, 3); });
  if (pre == "qwen2") pieces = by_ends(pieces, [](const Piece& p, std::size_t i) { return llama3_end(p, i, 1); });
  if (pre == "smollm") pieces = isolate_runs(pieces, 1, false, number);
  if (pre == "default") {
    pieces = isolate_runs(pieces, kAny, false, [](const Listed& c) {
      return c.kind == Class::punctuation || std::u32string_view(U"$+<=>^~|").find(c.c) != std::u32string_view::npos;
    });
  }
  if (pre == "gpt-2" || pre == "smollm" || pre == "default") pieces = by_ends(pieces, gpt2_end);
  if (pre == "default") {
    pieces = isolate_runs(pieces, kAny, false, number);
    pieces = isolate_runs(pieces, 3, true, [](const Listed& c) { return c.c >= U'0' && c.c <= U'9'; });
  }
  Words out;
  for (const Piece& p : pieces) {
    out.emplace_back();
    for (std::size_t i = p.begin; i < p.end; ++i) out.back() += to_utf8(p.text[i].c);
  }
  return out;
}

TEST(PretokenizerFamilies, AgainstASplitterWithoutRegularExpressions) {
  const auto seed = std::random_device{}();
  std::printf("seed %u\n", seed);
  std::mt19937 random(seed);
  for (const char* pre : {"llama-bpe", "gpt-2", "qwen2", "smollm", "default"}) {
    const Pretokenizer pretokenizer(pre, "test.gguf");
    for (int round = 0; round < 3000; ++round) {
      Text text(random() % 24);
      std::string bytes;
      for (Listed& c : text) {
        c = kListed[random() % kListed.size()];
        if (random() % 3 == 0) c = kListed[random() % 2 == 0 ? 25 : random() % kListed.size() / 2];  // more spaces and letters
        bytes += to_utf8(c.c);
      }
      Words got;
      for (const std::string_view word : pretokenizer.split(bytes)) got.emplace_back(word);
      ASSERT_EQ(got, oracle(pre, text)) << pre << ", seed " << seed << ", round " << round << ", text "
                                        << ::testing::PrintToString(bytes);
    }
  }
}

TEST(PretokenizerFamilies, RunsOfManyMegabytes) {
  const std::string digits(1 << 20, '7'), spaces(4 << 20, ' ');
  EXPECT_EQ(words("smollm", digits + spaces).size(), digits.size() + 1);
  EXPECT_EQ(words("gpt-2", spaces + "a").size(), 2u);
  EXPECT_EQ(words("default", digits).size(), digits.size() / 3 + 1);
}

}  // namespace
}  // namespace greta
