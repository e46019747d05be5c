// Cuts special tokens out of a text before it is tokenised.
#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "model/tokenizer_vocabulary.h"

namespace greta {

/// A piece of the input: a special token, or (token -1) text between them.
struct Fragment {
  std::string_view text;
  TokenId token = -1;
};

/// A set of tokens to be found by their exact text. Longer tokens win over shorter ones wherever they overlap, and of equally
/// long ones the one further left: what one gets by searching the whole text for every token in turn, the longest first.
class SpecialTokens {
 public:
  /// `vocabulary` must outlive the set. With `control`: control and unknown tokens too, else the user-defined ones alone.
  SpecialTokens(const Vocabulary& vocabulary, bool control);

  /// Fragments of `text` in order, none of them empty. Time O(n log n) for short tokens, whatever their number.
  std::vector<Fragment> split(std::string_view text) const;

 private:
  struct Match {
    std::size_t length = 0;  // 0: none
    TokenId token = -1;
  };
  Match longest_at(std::string_view text, std::size_t max_length) const;

  const Vocabulary& vocabulary_;
  std::vector<TokenId> sorted_;                                          // by text
  std::array<std::pair<std::uint32_t, std::uint32_t>, 256> by_first_{};  // ranges of sorted_ by first byte
};

}  // namespace greta
