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

/// Immutable after construction: one tokenizer serves any number of threads.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  /// Reads tokenizer.ggml.*: model `llama` (SentencePiece-style BPE with byte fallback) or `gpt2` (byte-level BPE)
  /// with pre-tokeniser llama-bpe, gpt-2, qwen2, smollm or default. Throws Error for others, naming the known ones, and for
  /// inconsistent tables. `file` may be closed afterwards.
  static std::unique_ptr<const Tokenizer> from_gguf(const Gguf& file);

  /// Ids of `text`. `add_special`: BOS and EOS as the file says, neither doubled where the text itself begins or ends with it.
  /// `parse_special`: control tokens in the text become their ids; those that the vocabulary lacks are plain text. (A
  /// vocabulary's user-defined tokens are always recognised.) Throws Error on invalid UTF-8, with the byte offset.
  virtual std::vector<TokenId> encode(std::string_view text, bool add_special, bool parse_special) const = 0;
  /// Raw bytes of one token (may be part of a UTF-8 character; empty for control tokens unless `special`). Throws Error where
  /// `id` is not in the vocabulary.
  virtual std::string token_bytes(TokenId id, bool special = false) const = 0;
  /// Text of ids; what a whole stream through StreamDecoder would print.
  std::string decode(const std::vector<TokenId>& ids, bool special = false) const;

  virtual int vocab_size() const = 0;
  virtual TokenId bos() const = 0;  // -1: none
  virtual TokenId eos() const = 0;  // -1: none
  virtual bool add_bos() const = 0;
  /// EOS, end of turn and the like: generation stops here.
  virtual bool ends_generation(TokenId id) const = 0;

  /// Control, unknown and user-defined tokens: those that encode() cuts out of the text before anything else.
  virtual bool is_special(TokenId id) const = 0;
  /// The special token of exactly this text; -1: none.
  virtual TokenId find_special(std::string_view text) const = 0;
  /// Whether encode() puts a space before a text that begins the input or follows a special token (decode() takes it away).
  virtual bool adds_space_prefix() const = 0;
};

/// XXH3-64 of the file's tokens in order, each with its length: files of one hash mean the same text by every id, however they
/// cut a text into tokens. 0 where the file has no vocabulary.
std::uint64_t vocabulary_hash(const Gguf& file);

/// Streaming detokenisation: never splits a UTF-8 character over two returns.
class StreamDecoder {
 public:
  /// Where the stream continues a text that was not pushed (the answer to a prompt), the space before its first word is part of
  /// the text: then `continues` is true. `special` prints control tokens.
  explicit StreamDecoder(const Tokenizer& tokenizer, bool continues = false, bool special = false)
      : tokenizer_(tokenizer), after_special_(!continues), special_(special) {}
  /// Text that is complete after `id`, invalid bytes as U+FFFD; bytes of an unfinished character wait.
  std::string push(TokenId id);
  /// What still waits at the end of the stream, as U+FFFD.
  std::string finish();

 private:
  const Tokenizer& tokenizer_;
  std::string pending_;  // at most three bytes between calls
  bool after_special_;   // the next text has a space before it that is not the text's own
  bool special_;
};

}  // namespace greta
