// Text to token ids and back, from GGUF metadata.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace greta {

class Gguf;

using TokenId = std::int32_t;

class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// Reads tokenizer.ggml.*: model `llama` (SentencePiece-style BPE with byte fallback) or `gpt2` with pre-tokeniser
  /// `llama-bpe`. Throws Error for others, naming the known ones, and for inconsistent tables.
  static std::unique_ptr<const Tokenizer> from_gguf(const Gguf& file);

  /// Ids of `text`. `add_special`: BOS/EOS as the file says, BOS never doubled where the text itself begins with it. `parse_special`: special
  /// tokens in the text become their ids; those that the vocabulary lacks are plain text. Throws Error on invalid UTF-8, with the byte offset.
  virtual std::vector<TokenId> encode(std::string_view text, bool add_special, bool parse_special) const = 0;
  /// Raw bytes of one token (may be part of a UTF-8 character; empty for control tokens unless `special`).
  virtual std::string token_bytes(TokenId id, bool special = false) const = 0;
  /// Text of ids; what a whole stream through StreamDecoder would print.
  std::string decode(const std::vector<TokenId>& ids, bool special = false) const;

  virtual int vocab_size() const = 0;
  virtual TokenId bos() const = 0;  // -1: none
  virtual TokenId eos() const = 0;  // -1: none
  virtual bool add_bos() const = 0;
  /// EOS, end of turn and the like: generation stops here.
  virtual bool ends_generation(TokenId id) const = 0;
};

/// Streaming detokenisation: never splits a UTF-8 character over two returns.
class StreamDecoder {
 public:
  explicit StreamDecoder(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}
  /// Text that is complete after `id`; bytes of an unfinished character wait.
  std::string push(TokenId id);
  /// What still waits at the end of the stream, invalid bytes as U+FFFD.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;
  bool first_ = true;
};

}  // namespace greta
