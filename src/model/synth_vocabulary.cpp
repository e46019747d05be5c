#include <array>
#include <string>

#include "core/error.h"
#include "model/synth.h"

namespace greta {
namespace {

constexpr std::string_view kLetters = "etaoinshrdlcumwfgypbvkjxqz";  // by frequency in English text
constexpr int kFewSpecials = 11;
constexpr int kAllSpecials = 256;
constexpr int kManyTokens = 4096;  // from here on all specials fit beside useful merges
constexpr int kMaxTokens = 256 + 26 + 2 * (26 * 26 + 26 * 26 * 26) + 2 * (26 * 26 * 26 * 26) + kAllSpecials;

/// UTF-8 of a code point below 0x800.
std::string utf8(int code) {
  if (code < 0x80) return {static_cast<char>(code)};
  return {static_cast<char>(0xc0 | (code >> 6)), static_cast<char>(0x80 | (code & 0x3f))};
}

/// GPT-2's spelling of bytes: printable Latin-1 as itself, the others from U+0100 on in order.
std::array<std::string, 256> byte_spellings() {
  std::array<std::string, 256> out;
  int next = 0x100;
  for (int b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
    out[static_cast<std::size_t>(b)] = utf8(printable ? b : next++);
  }
  return out;
}

/// The order of Llama 3's last 256 tokens.
std::vector<std::string> special_tokens(int count) {
  std::vector<std::string> out{"<|begin_of_text|>",
                               "<|end_of_text|>",
                               "<|reserved_special_token_0|>",
                               "<|reserved_special_token_1|>",
                               "<|finetune_right_pad_id|>",
                               "<|reserved_special_token_2|>",
                               "<|start_header_id|>",
                               "<|end_header_id|>",
                               "<|eom_id|>",
                               "<|eot_id|>",
                               "<|python_tag|>"};
  for (int i = 3; std::ssize(out) < count; ++i) out.push_back(fmt::format("<|reserved_special_token_{}|>", i));
  return out;
}

}  // namespace

SynthVocabulary synth_vocabulary(int size) {
  const int n_specials = size >= kManyTokens ? kAllSpecials : kFewSpecials;
  if (size < 256 + n_specials || size > kMaxTokens) {
    fail("vocabulary of {} tokens, wanted {} to {}", size, 256 + kFewSpecials, kMaxTokens);
  }
  SynthVocabulary vocabulary;
  const auto bytes = byte_spellings();
  vocabulary.tokens.assign(bytes.begin(), bytes.end());
  const std::size_t n_merges = static_cast<std::size_t>(size - 256 - n_specials);
  // Words of one length come from those one shorter, each by appending a letter: no token can be made in two ways.
  const std::string& space = bytes[' '];
  std::vector<std::string> shorter{space};
  bool first = true;
  while (vocabulary.merges.size() < n_merges) {
    std::vector<std::string> longer;
    if (first) {
      for (const char letter : kLetters) longer.emplace_back(1, letter);  // tokens already, as bytes
    }
    first = false;
    for (const std::string& word : shorter) {
      for (const char letter : kLetters) {
        if (vocabulary.merges.size() == n_merges) break;
        longer.push_back(word + letter);
        vocabulary.tokens.push_back(longer.back());
        vocabulary.merges.push_back(fmt::format("{} {}", word, letter));
      }
    }
    shorter = std::move(longer);
  }
  vocabulary.types.assign(vocabulary.tokens.size(), 1);
  vocabulary.begin_of_text = static_cast<std::int32_t>(vocabulary.tokens.size());
  vocabulary.end_of_text = vocabulary.begin_of_text + 1;
  vocabulary.end_of_turn = vocabulary.begin_of_text + 9;
  for (auto& special : special_tokens(n_specials)) vocabulary.tokens.push_back(std::move(special));
  vocabulary.types.resize(vocabulary.tokens.size(), 3);
  return vocabulary;
}

}  // namespace greta
