// Pre-tokenisers: the regular expression that cuts a text into the words within which byte-pair encoding merges.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace greta {

/// Cuts with PCRE2 in UTF and UCP mode (character classes are Unicode's).
class Pretokenizer {
 public:
  /// `pre` as in tokenizer.ggml.pre. Throws Error for an unknown one, naming the known ones; `source` is the file.
  Pretokenizer(std::string_view pre, const std::string& source);
  ~Pretokenizer();

  /// Words of `text` in order; together they are the whole text. `text` must be valid UTF-8. Thread-safe.
  std::vector<std::string_view> split(std::string_view text) const;

 private:
  struct Impl;
  std::unique_ptr<const Impl> impl_;
};

}  // namespace greta
