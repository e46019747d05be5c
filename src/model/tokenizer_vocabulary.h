// The token table of a model: texts, types, scores, and the ids with a part to play.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "model/tokenizer_data.h"

namespace greta {

/// Numbered as in the file.
enum class TokenType : std::uint8_t { undefined, normal, unknown, control, user_defined, unused, byte };

/// Keeps copies of what it needs. Token texts are as in the file: escaped ("▁the", "Ġthe").
class Vocabulary {
 public:
  /// Throws Error, one line, for a missing array, lengths that differ, an unknown type, a duplicate text, a score that is NaN,
  /// an id past the end, BOS or EOS to add but not there.
  Vocabulary(const TokenizerData& data, bool needs_scores);
  Vocabulary(const Vocabulary&) = delete;
  Vocabulary& operator=(const Vocabulary&) = delete;

  int size() const { return static_cast<int>(types_.size()); }
  std::string_view text(TokenId id) const;
  TokenType type(TokenId id) const { return types_[static_cast<std::size_t>(id)]; }
  double score(TokenId id) const { return scores_[static_cast<std::size_t>(id)]; }
  std::uint8_t byte_value(TokenId id) const;  // of a byte token
  /// Whether plain text may become this token: not control, unknown or byte.
  bool is_text(TokenId id) const;
  bool is_special(TokenId id) const;
  /// Throws Error where `id` is not a token.
  void check(TokenId id) const;

  TokenId find(std::string_view text) const;                                  // of any type; -1: none
  TokenId find_text(std::string_view text) const;                             // is_text; -1: none
  TokenId byte_token(std::uint8_t byte) const { return byte_tokens_[byte]; }  // <0xNN>; -1: none

  TokenId bos() const { return bos_; }
  TokenId eos() const { return eos_; }
  TokenId unknown() const { return unknown_; }
  bool add_bos() const { return add_bos_; }
  bool add_eos() const { return add_eos_; }
  bool ends_generation(TokenId id) const;
  const std::string& source() const { return source_; }

 private:
  void read_texts(const std::vector<std::string>& tokens);
  void read_types(const TokenizerData& data);
  void read_scores(const TokenizerData& data);
  void index_texts();
  void read_byte_tokens();
  void read_roles(const TokenizerData& data);
  TokenId checked_id(const std::optional<std::int64_t>& id, std::string_view key) const;

  std::string source_;
  std::string texts_;                 // all of them, one after the other
  std::vector<std::size_t> offsets_;  // size() + 1
  std::vector<TokenType> types_;
  std::vector<double> scores_;
  std::unordered_map<std::string_view, TokenId> ids_;  // views into texts_
  std::size_t longest_ = 0;                            // bytes
  std::array<TokenId, 256> byte_tokens_{};
  TokenId bos_ = -1, eos_ = -1, unknown_ = -1;
  bool add_bos_ = false, add_eos_ = false;
  std::vector<TokenId> end_tokens_;
};

}  // namespace greta
