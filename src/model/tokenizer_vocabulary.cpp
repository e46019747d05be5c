#include "model/tokenizer_vocabulary.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/quote.h"

namespace greta {
namespace {

/// Real vocabularies stay below 1 KiB; a megabyte of token would only make every search slow.
constexpr std::size_t kMaxTokenBytes = 64 * 1024;
constexpr std::size_t kMaxTokens = std::size_t{1} << 24;
constexpr std::size_t kTokenTypes = 7;

/// Names by which chat models end a turn where the file names no id. "</s>" is what Llama 1 and 2 end with.
constexpr std::array<std::string_view, 9> kEndNames{
    "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "</s>", "<EOT>"};

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  if (c >= 'A' && c <= 'F') return c - 'A' + 10;
  if (c >= 'a' && c <= 'f') return c - 'a' + 10;
  return -1;
}

/// The NN of "<0xNN>"; -1 for any other text.
int parse_byte(std::string_view text) {
  if (text.size() != 6 || !text.starts_with("<0x") || text[5] != '>') return -1;
  const int high = hex_digit(text[3]), low = hex_digit(text[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

}  // namespace

Vocabulary::Vocabulary(const TokenizerData& data, bool needs_scores) : source_(data.source) {
  if (data.tokens == nullptr) {
    fail("{}: key 'tokenizer.ggml.tokens' is missing: the file has no vocabulary; convert the model again with it", source_);
  }
  read_texts(*data.tokens);
  read_types(data);
  if (needs_scores) read_scores(data);
  index_texts();
  read_byte_tokens();
  read_roles(data);
}

void Vocabulary::read_texts(const std::vector<std::string>& tokens) {
  if (tokens.empty() || tokens.size() > kMaxTokens) {
    fail("{}: 'tokenizer.ggml.tokens' has {} entries, wanted 1 to {}", source_, tokens.size(), kMaxTokens);
  }
  offsets_.reserve(tokens.size() + 1);
  offsets_.push_back(0);
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    if (tokens[i].size() > kMaxTokenBytes) {
      fail("{}: token {} has {} bytes, wanted at most {}; the file is damaged", source_, i, tokens[i].size(), kMaxTokenBytes);
    }
    texts_ += tokens[i];
    offsets_.push_back(texts_.size());
    longest_ = std::max(longest_, tokens[i].size());
  }
}

void Vocabulary::read_types(const TokenizerData& data) {
  const std::size_t count = offsets_.size() - 1;
  if (data.token_types == nullptr) {
    fail("{}: key 'tokenizer.ggml.token_type' is missing: special tokens cannot be told from text; convert the model again",
         source_);
  }
  if (data.token_types->size() != count) {
    fail("{}: 'tokenizer.ggml.token_type' has {} entries, 'tokenizer.ggml.tokens' {}", source_, data.token_types->size(),
         count);
  }
  types_.reserve(count);
  for (const std::int64_t type : *data.token_types) {
    if (type < 0 || type >= static_cast<std::int64_t>(kTokenTypes)) {
      fail("{}: 'tokenizer.ggml.token_type' of token {} is {}, wanted 0 to {}", source_, types_.size(), type, kTokenTypes - 1);
    }
    types_.push_back(static_cast<TokenType>(type));
  }
}

void Vocabulary::read_scores(const TokenizerData& data) {
  const std::size_t count = offsets_.size() - 1;
  if (data.scores == nullptr) {
    fail("{}: key 'tokenizer.ggml.scores' is missing: tokenizer 'llama' merges by scores; convert the model again", source_);
  }
  if (data.scores->size() != count) {
    fail("{}: 'tokenizer.ggml.scores' has {} entries, 'tokenizer.ggml.tokens' {}", source_, data.scores->size(), count);
  }
  const auto nan = std::find_if(data.scores->begin(), data.scores->end(), [](double score) { return std::isnan(score); });
  if (nan != data.scores->end()) {
    fail("{}: 'tokenizer.ggml.scores' of token {} is NaN, wanted a number", source_, nan - data.scores->begin());
  }
  scores_ = *data.scores;
}

/// Tokens without text (padding of some vocabularies) are not found by text; any other text belongs to one token.
void Vocabulary::index_texts() {
  ids_.reserve(types_.size());
  for (TokenId id = 0; id < size(); ++id) {
    if (text(id).empty()) continue;
    const auto [entry, fresh] = ids_.emplace(text(id), id);
    if (!fresh) fail("{}: tokens {} and {} have the same text {}", source_, entry->second, id, quote(text(id)));
  }
}

void Vocabulary::read_byte_tokens() {
  byte_tokens_.fill(-1);
  for (TokenId id = 0; id < size(); ++id) {
    if (type(id) != TokenType::byte) continue;
    const int value = parse_byte(text(id));
    if (value < 0) fail("{}: token {} is a byte token with text {}, wanted '<0x00>' to '<0xFF>'", source_, id, quote(text(id)));
    TokenId& token = byte_tokens_[static_cast<std::size_t>(value)];
    if (token >= 0) fail("{}: tokens {} and {} stand for the same byte {}", source_, token, id, quote(text(id)));
    token = id;
  }
}

TokenId Vocabulary::checked_id(const std::optional<std::int64_t>& id, std::string_view key) const {
  if (!id) return -1;
  if (*id < 0 || *id >= size()) fail("{}: 'tokenizer.ggml.{}' is {}, wanted 0 to {}", source_, key, *id, size() - 1);
  return static_cast<TokenId>(*id);
}

void Vocabulary::read_roles(const TokenizerData& data) {
  const auto special_named = [&](std::string_view name) {
    const TokenId id = find(name);
    return id >= 0 && is_special(id) ? id : -1;
  };
  bos_ = data.bos ? checked_id(data.bos, "bos_token_id") : special_named("<s>");
  eos_ = data.eos ? checked_id(data.eos, "eos_token_id") : special_named("</s>");
  unknown_ = checked_id(data.unknown, "unknown_token_id");
  if (!data.unknown) {
    const auto first = std::find(types_.begin(), types_.end(), TokenType::unknown);
    if (first != types_.end()) unknown_ = static_cast<TokenId>(first - types_.begin());
  }
  add_bos_ = data.add_bos.value_or(bos_ >= 0);
  add_eos_ = data.add_eos.value_or(false);
  if (add_bos_ && bos_ < 0)
    fail("{}: 'tokenizer.ggml.add_bos_token' is true, but 'tokenizer.ggml.bos_token_id' is missing", source_);
  if (add_eos_ && eos_ < 0)
    fail("{}: 'tokenizer.ggml.add_eos_token' is true, but 'tokenizer.ggml.eos_token_id' is missing", source_);

  end_tokens_ = {eos_, checked_id(data.eot, "eot_token_id"), checked_id(data.eom, "eom_token_id")};
  for (const std::string_view name : kEndNames) end_tokens_.push_back(special_named(name));
  std::erase(end_tokens_, -1);
}

std::string_view Vocabulary::text(TokenId id) const {
  const auto i = static_cast<std::size_t>(id);
  return std::string_view(texts_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
}

std::uint8_t Vocabulary::byte_value(TokenId id) const { return static_cast<std::uint8_t>(parse_byte(text(id))); }

bool Vocabulary::is_text(TokenId id) const {
  const TokenType t = type(id);
  return t != TokenType::control && t != TokenType::unknown && t != TokenType::byte;
}

bool Vocabulary::is_special(TokenId id) const {
  const TokenType t = type(id);
  return t == TokenType::control || t == TokenType::unknown || t == TokenType::user_defined;
}

void Vocabulary::check(TokenId id) const {
  if (id < 0 || id >= size()) fail("{}: token id {} is not in the vocabulary, wanted 0 to {}", source_, id, size() - 1);
}

TokenId Vocabulary::find(std::string_view wanted) const {
  if (wanted.size() > longest_) return -1;  // also keeps a search for a long text from reading it
  const auto found = ids_.find(wanted);
  return found != ids_.end() ? found->second : -1;
}

TokenId Vocabulary::find_text(std::string_view wanted) const {
  const TokenId id = find(wanted);
  return id >= 0 && is_text(id) ? id : -1;
}

bool Vocabulary::ends_generation(TokenId id) const {
  return std::find(end_tokens_.begin(), end_tokens_.end(), id) != end_tokens_.end();
}

}  // namespace greta
