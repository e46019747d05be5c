// Pre-tokenisers: the regular expression that cuts a text into the words within which byte-pair encoding merges.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace greta {

/// Cuts with PCRE2 in UTF and UCP mode (character classes are Unicode's), by one pattern or by several, one after the other.
class Pretokenizer {
 public:
  /// `pre` as in tokenizer.ggml.pre. Throws Error for an unknown one, naming the known ones; `source` is the file.
  Pretokenizer(std::string_view pre, const std::string& source);
  ~Pretokenizer();

  /// The one of llama-bpe, gpt-2, qwen2, smollm and default that `pre` is a name of; nullopt: unknown.
  static std::optional<std::string_view> canonical(std::string_view pre);
  /// Whether models of this pre-tokeniser begin with BOS where their file does not say.
  static bool begins_with_bos(std::string_view pre);
  /// Whether a word that is a token is that token, whatever the merges would make of it (tokenizer.json's `ignore_merges`).
  bool whole_words_first() const;

  /// Words of `text` in order; together they are the whole text. `text` must be valid UTF-8. Thread-safe.
  std::vector<std::string_view> split(std::string_view text) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace greta
