#include "model/tokenizer_bpe.h"

#include "core/error.h"
#include "core/quote.h"
#include "core/utf8.h"
#include "model/tokenizer_merge.h"

namespace greta {
namespace {

std::uint64_t pair_key(std::int32_t left, std::int32_t right) {
  return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

std::string utf8_below_0x800(unsigned code_point) {
  if (code_point < 0x80) return std::string(1, static_cast<char>(code_point));
  return {static_cast<char>(0xC0 | code_point >> 6), static_cast<char>(0x80 | (code_point & 0x3F))};
}

std::array<std::string, 256> make_alphabet() {
  std::array<std::string, 256> alphabet;
  unsigned next = 0x100;
  for (unsigned byte = 0; byte < 256; ++byte) {
    const bool printable = (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
    alphabet[byte] = utf8_below_0x800(printable ? byte : next++);
  }
  return alphabet;
}

std::unordered_map<std::string_view, char> make_alphabet_inverse() {
  std::unordered_map<std::string_view, char> inverse;
  for (std::size_t byte = 0; byte < 256; ++byte) inverse[byte_level_alphabet()[byte]] = static_cast<char>(byte);
  return inverse;
}

/// Byte-level vocabularies often name a BOS that no text begins with (GPT-2's and Qwen's end of text).
TokenizerData with_bos_default(TokenizerData data) {
  if (!data.add_bos && !Pretokenizer::begins_with_bos(data.pre.value_or(""))) data.add_bos = false;
  return data;
}

std::string_view required_pre(const TokenizerData& data) {
  if (!data.pre) {
    fail("{}: key 'tokenizer.ggml.pre' is missing: how the text is cut into words is not known; convert the model again",
         data.source);
  }
  return *data.pre;
}

}  // namespace

const std::array<std::string, 256>& byte_level_alphabet() {
  static const std::array<std::string, 256> alphabet = make_alphabet();
  return alphabet;
}

BpeTokenizer::BpeTokenizer(const TokenizerData& data)
    : TokenizerBase(with_bos_default(data), /*needs_scores=*/false), pretokenizer_(required_pre(data), data.source) {
  if (data.merges == nullptr) {
    fail("{}: key 'tokenizer.ggml.merges' is missing: tokenizer 'gpt2' merges by it; convert the model again", data.source);
  }
  read_merges(*data.merges);
}

void BpeTokenizer::read_merges(const std::vector<std::string>& merges) {
  constexpr std::size_t kMaxMerges = std::size_t{1} << 26;
  if (merges.size() > kMaxMerges) {
    fail("{}: 'tokenizer.ggml.merges' has {} entries, wanted at most {}", vocabulary().source(), merges.size(), kMaxMerges);
  }
  for (std::size_t byte = 0; byte < 256; ++byte) {
    const TokenId id = vocabulary().find(byte_level_alphabet()[byte]);
    byte_symbols_[byte] = id >= 0 ? id : vocabulary().size() + static_cast<std::int32_t>(byte);
  }
  const auto token_of = [&](std::string_view text, std::size_t rank) {
    const TokenId id = vocabulary().find(text);
    if (id < 0) {
      fail("{}: 'tokenizer.ggml.merges' entry {} is {}, but {} is not a token; the file is damaged", vocabulary().source(), rank,
           quote(merges[rank]), quote(text));
    }
    return id;
  };
  merges_.reserve(merges.size());
  std::string merged;
  for (std::size_t rank = 0; rank < merges.size(); ++rank) {
    const std::string_view merge = merges[rank];
    const std::size_t space = merge.find(' ');
    if (space == std::string_view::npos || space == 0 || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != merge.npos) {
      fail("{}: 'tokenizer.ggml.merges' entry {} is {}, wanted two symbols with one space between", vocabulary().source(), rank,
           quote(merge));
    }
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    merged.assign(left).append(right);
    const std::uint64_t key = pair_key(token_of(left, rank), token_of(right, rank));
    merges_.try_emplace(key, Merge{static_cast<std::int32_t>(rank), token_of(merged, rank)});  // of a pair given twice the first
  }
}

void BpeTokenizer::encode_text(std::string_view text, std::vector<TokenId>& ids) const {
  for (const std::string_view word : pretokenizer_.split(text)) encode_word(word, ids);
}

void BpeTokenizer::encode_word(std::string_view word, std::vector<TokenId>& ids) const {
  if (pretokenizer_.whole_words_first()) {
    std::string escaped;
    for (const char c : word) escaped += byte_level_alphabet()[static_cast<unsigned char>(c)];
    if (const TokenId id = vocabulary().find_text(escaped); id >= 0) {
      ids.push_back(id);
      return;
    }
  }
  std::vector<MergeSymbol> symbols(word.size());
  for (std::size_t i = 0; i < word.size(); ++i) symbols[i] = {i, 1, byte_symbols_[static_cast<unsigned char>(word[i])]};
  merge_symbols(symbols, [&](const MergeSymbol& left, const MergeSymbol& right) -> std::optional<MergePair> {
    const auto found = merges_.find(pair_key(left.id, right.id));
    if (found == merges_.end()) return std::nullopt;
    return MergePair{-static_cast<double>(found->second.rank), found->second.symbol};
  });

  const auto is_token = [&](std::int32_t symbol) { return symbol < vocabulary().size() && vocabulary().is_text(symbol); };
  for (std::int32_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next) {
    const MergeSymbol& symbol = symbols[static_cast<std::size_t>(i)];
    if (is_token(symbol.id)) {
      ids.push_back(symbol.id);
      continue;
    }
    for (const char& c : word.substr(symbol.begin, symbol.bytes)) {  // a merge into no token of text: its bytes
      if (const std::int32_t byte = byte_symbols_[static_cast<unsigned char>(c)]; is_token(byte)) {
        ids.push_back(byte);
      } else {
        append_unknown({&c, 1}, ids);
      }
    }
  }
}

/// A character that stands for no byte (none in a well-made vocabulary) stands for itself.
std::string BpeTokenizer::unescape(std::string_view token_text) const {
  static const std::unordered_map<std::string_view, char> inverse = make_alphabet_inverse();
  std::string out;
  while (!token_text.empty()) {
    const std::string_view character = token_text.substr(0, utf8_step(token_text).bytes);
    const auto found = inverse.find(character);
    if (found != inverse.end()) {
      out += found->second;
    } else {
      out += character;
    }
    token_text.remove_prefix(character.size());
  }
  return out;
}

}  // namespace greta
