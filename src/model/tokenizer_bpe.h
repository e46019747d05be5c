// Byte-level byte-pair encoding by merge ranks: GGUF tokenizer `gpt2`.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <unordered_map>

#include "model/tokenizer_base.h"
#include "model/tokenizer_pretoken.h"

namespace greta {

/// How byte-level vocabularies write a byte: itself where it is printable Latin-1, else U+0100 and up in order (GPT-2's
/// `bytes_to_unicode`). UTF-8.
const std::array<std::string, 256>& byte_level_alphabet();

class BpeTokenizer final : public TokenizerBase {
 public:
  explicit BpeTokenizer(const TokenizerData& data);
  bool adds_space_prefix() const override { return false; }

 private:
  struct Merge {
    std::int32_t rank = 0;
    std::int32_t symbol = -1;  // the merged one
  };

  /// Throws Error for a merge that is not two symbols, or of which a part or the whole is not a token.
  void read_merges(const std::vector<std::string>& merges);
  void encode_text(std::string_view text, std::vector<TokenId>& ids) const override;
  void encode_word(std::string_view word, std::vector<TokenId>& ids) const;
  std::string unescape(std::string_view token_text) const override;

  Pretokenizer pretokenizer_;
  // Symbols are token ids; bytes that the vocabulary lacks are numbered after them.
  std::array<std::int32_t, 256> byte_symbols_{};
  std::unordered_map<std::uint64_t, Merge> merges_;  // by left << 32 | right
};

}  // namespace greta
