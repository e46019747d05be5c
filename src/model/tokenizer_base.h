// What both tokenizers share: the vocabulary, special tokens, BOS and EOS.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "model/tokenizer.h"
#include "model/tokenizer_special.h"
#include "model/tokenizer_vocabulary.h"

namespace greta {

class TokenizerBase : public Tokenizer {
 public:
  std::vector<TokenId> encode(std::string_view text, bool add_special, bool parse_special) const override;
  std::string token_bytes(TokenId id, bool special) const override;
  int vocab_size() const override { return vocabulary_.size(); }
  TokenId bos() const override { return vocabulary_.bos(); }
  TokenId eos() const override { return vocabulary_.eos(); }
  bool add_bos() const override { return vocabulary_.add_bos(); }
  bool ends_generation(TokenId id) const override { return vocabulary_.ends_generation(id); }
  bool is_special(TokenId id) const override;
  TokenId find_special(std::string_view text) const override;

 protected:
  TokenizerBase(const TokenizerData& data, bool needs_scores);
  const Vocabulary& vocabulary() const { return vocabulary_; }

  /// Appends the ids of `text`: valid UTF-8, not empty, without special tokens; it begins the input or follows a special token.
  virtual void encode_text(std::string_view text, std::vector<TokenId>& ids) const = 0;
  /// The bytes that the text of a normal token stands for.
  virtual std::string unescape(std::string_view token_text) const = 0;
  /// For text that no token stands for: the unknown token. Throws Error where the vocabulary has none.
  void append_unknown(std::string_view text, std::vector<TokenId>& ids) const;

 private:
  Vocabulary vocabulary_;
  SpecialTokens user_defined_;
  SpecialTokens all_special_;
};

}  // namespace greta
