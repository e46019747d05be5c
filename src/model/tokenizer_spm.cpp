#include "model/tokenizer_spm.h"

#include <algorithm>

#include "core/utf8.h"
#include "model/tokenizer_merge.h"

namespace greta {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, how the vocabulary writes a space

void append_escaped(std::string& out, std::string_view text) {
  for (const char c : text) {
    if (c == ' ') {
      out += kSpace;
    } else {
      out += c;
    }
  }
}

}  // namespace

SpmTokenizer::SpmTokenizer(const TokenizerData& data)
    : TokenizerBase(data, /*needs_scores=*/true), space_prefix_(data.add_space_prefix.value_or(true)) {}

void SpmTokenizer::encode_text(std::string_view text, std::vector<TokenId>& ids) const {
  std::string escaped;
  escaped.reserve(text.size() + text.size() / 4);
  if (space_prefix_) escaped += kSpace;
  append_escaped(escaped, text);
  const std::string_view all = escaped;

  std::vector<MergeSymbol> symbols;
  symbols.reserve(all.size());
  for (std::size_t i = 0; i < all.size();) {
    const std::size_t bytes = utf8_step(all.substr(i)).bytes;
    symbols.push_back({i, bytes, vocabulary().find_text(all.substr(i, bytes))});
    i += bytes;
  }
  merge_symbols(symbols, [&](const MergeSymbol& left, const MergeSymbol& right) -> std::optional<MergePair> {
    const TokenId id = vocabulary().find_text(all.substr(left.begin, left.bytes + right.bytes));
    if (id < 0) return std::nullopt;
    return MergePair{vocabulary().score(id), id};
  });

  for (std::int32_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next) {
    const MergeSymbol& symbol = symbols[static_cast<std::size_t>(i)];
    if (symbol.id >= 0) {
      ids.push_back(symbol.id);
      continue;
    }
    append_bytes(all.substr(symbol.begin, symbol.bytes), ids);
  }
}

/// Byte fallback for one character.
void SpmTokenizer::append_bytes(std::string_view character, std::vector<TokenId>& ids) const {
  const auto token_of = [&](char c) { return vocabulary().byte_token(static_cast<unsigned char>(c)); };
  if (std::any_of(character.begin(), character.end(), [&](char c) { return token_of(c) < 0; })) {
    append_unknown(character, ids);
  } else {
    for (const char c : character) ids.push_back(token_of(c));
  }
}

std::string SpmTokenizer::unescape(std::string_view token_text) const {
  std::string out;
  while (!token_text.empty()) {
    const std::size_t space = token_text.find(kSpace);
    out += token_text.substr(0, space);
    if (space == std::string_view::npos) break;
    out += ' ';
    token_text.remove_prefix(space + kSpace.size());
  }
  return out;
}

}  // namespace greta
