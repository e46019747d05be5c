// SentencePiece-style byte-pair encoding by scores, with byte fallback: GGUF tokenizer `llama`.
#pragma once

#include "model/tokenizer_base.h"

namespace greta {

class SpmTokenizer final : public TokenizerBase {
 public:
  explicit SpmTokenizer(const TokenizerData& data);
  bool adds_space_prefix() const override { return space_prefix_; }

 private:
  void encode_text(std::string_view text, std::vector<TokenId>& ids) const override;
  void append_bytes(std::string_view character, std::vector<TokenId>& ids) const;
  std::string unescape(std::string_view token_text) const override;

  bool space_prefix_;
};

}  // namespace greta
