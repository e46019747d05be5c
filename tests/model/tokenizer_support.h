// Small vocabularies and random texts for the tests of the tokenizers.
#pragma once

#include <fmt/format.h>
#include <rapidcheck.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"
#include "model/tokenizer_data.h"

namespace greta {

/// GGUF's token types.
enum : std::int64_t { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

/// Owns the arrays that TokenizerData views. Default: model `llama`.
struct TestVocabulary {
  TokenizerData data;
  std::vector<std::string> tokens, merges;
  std::vector<double> scores;
  std::vector<std::int64_t> types;

  TokenId add(std::string text, double score = 0, std::int64_t type = kNormal) {
    tokens.push_back(std::move(text));
    scores.push_back(score);
    types.push_back(type);
    return static_cast<TokenId>(tokens.size()) - 1;
  }
  /// <0x00> to <0xFF>; the id of the first.
  TokenId add_bytes() {
    const auto first = static_cast<TokenId>(tokens.size());
    for (int byte = 0; byte < 256; ++byte) add(fmt::format("<0x{:02X}>", byte), 0, kByte);
    return first;
  }
  /// The data, its pointers set where the test has not chosen otherwise.
  TokenizerData view() {
    TokenizerData d = data;
    d.source = "test.gguf";
    if (!d.model) d.model = "llama";
    d.tokens = &tokens;
    d.scores = &scores;
    d.token_types = &types;
    if (*d.model == "gpt2") {
      if (!d.pre) d.pre = "llama-bpe";
      d.merges = &merges;
    }
    return d;
  }
  std::unique_ptr<const Tokenizer> make() { return make_tokenizer(view()); }
};

inline std::string to_utf8(char32_t c) {
  const auto byte = [](char32_t value) { return static_cast<char>(static_cast<unsigned char>(value)); };
  if (c < 0x80) return {byte(c)};
  if (c < 0x800) return {byte(0xC0 | c >> 6), byte(0x80 | (c & 0x3F))};
  if (c < 0x10000) return {byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 0x3F)), byte(0x80 | (c & 0x3F))};
  return {byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 0x3F)), byte(0x80 | (c >> 6 & 0x3F)), byte(0x80 | (c & 0x3F))};
}

/// Random valid UTF-8 of every length of character, spaces and letters more often than others; without `excluded`.
inline rc::Gen<std::string> utf8_text(std::vector<char32_t> excluded = {}) {
  const auto code_point = rc::gen::suchThat(
      rc::gen::weightedOneOf<char32_t>({{6, rc::gen::inRange<char32_t>(U'a', U'z')},
                                        {4, rc::gen::element<char32_t>(U' ', U'\n', U'\t', U'\r', U'\'', U'.', U'0', U'7')},
                                        {2, rc::gen::inRange<char32_t>(0, 0x80)},
                                        {2, rc::gen::inRange<char32_t>(0x80, 0x800)},
                                        {2, rc::gen::inRange<char32_t>(0x800, 0x10000)},
                                        {1, rc::gen::inRange<char32_t>(0x10000, 0x110000)}}),
      [excluded](char32_t c) {
        const bool surrogate = c >= 0xD800 && c < 0xE000;
        return !surrogate && std::find(excluded.begin(), excluded.end(), c) == excluded.end();
      });
  return rc::gen::map(rc::gen::container<std::vector<char32_t>>(code_point), [](const std::vector<char32_t>& text) {
    std::string out;
    for (const char32_t c : text) out += to_utf8(c);
    return out;
  });
}

}  // namespace greta
