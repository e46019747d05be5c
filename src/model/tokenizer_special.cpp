#include "model/tokenizer_special.h"

#include <algorithm>
#include <queue>

#include "core/utf8.h"

namespace greta {

SpecialTokens::SpecialTokens(const Vocabulary& vocabulary, bool control) : vocabulary_(vocabulary) {
  for (TokenId id = 0; id < vocabulary.size(); ++id) {
    const bool wanted = vocabulary.type(id) == TokenType::user_defined || (control && vocabulary.is_special(id));
    // A text that is not UTF-8 could only be found inside a character, and would leave the rest of it behind.
    const std::string_view text = vocabulary.text(id);
    if (wanted && !text.empty() && !first_invalid_utf8(text)) sorted_.push_back(id);
  }
  std::sort(sorted_.begin(), sorted_.end(), [&](TokenId a, TokenId b) { return vocabulary.text(a) < vocabulary.text(b); });
  for (std::uint32_t i = 0; i < sorted_.size(); ++i) {
    auto& range = by_first_[static_cast<unsigned char>(vocabulary.text(sorted_[i])[0])];
    if (range.second == 0) range.first = i;
    range.second = i + 1;
  }
}

/// The longest token, of at most `max_length` bytes, that `text` begins with: narrows a range of the sorted texts byte by byte.
SpecialTokens::Match SpecialTokens::longest_at(std::string_view text, std::size_t max_length) const {
  Match best;
  auto [low, high] = by_first_[static_cast<unsigned char>(text[0])];
  const auto byte_at = [&](TokenId id, std::size_t depth) { return static_cast<unsigned char>(vocabulary_.text(id)[depth]); };
  for (std::size_t depth = 1; low < high && depth <= max_length; ++depth) {
    if (high - low == 1) {  // one left: compare the rest of it at once
      const std::string_view last = vocabulary_.text(sorted_[low]);
      return last.size() <= max_length && text.starts_with(last) ? Match{last.size(), sorted_[low]} : best;
    }
    if (vocabulary_.text(sorted_[low]).size() == depth) {  // the shortest of a common prefix sorts first
      best = {depth, sorted_[low]};
      ++low;
    }
    if (depth == text.size()) break;
    const auto byte = static_cast<unsigned char>(text[depth]);
    const auto begin = sorted_.begin();
    const auto first =
        std::lower_bound(begin + low, begin + high, byte, [&](TokenId id, unsigned char b) { return byte_at(id, depth) < b; });
    const auto end =
        std::upper_bound(first, begin + high, byte, [&](unsigned char b, TokenId id) { return b < byte_at(id, depth); });
    low = static_cast<std::uint32_t>(first - begin);
    high = static_cast<std::uint32_t>(end - begin);
  }
  return best;
}

std::vector<Fragment> SpecialTokens::split(std::string_view text) const {
  if (text.empty()) return {};
  if (sorted_.empty()) return {{text, -1}};

  // Candidates in the order in which they win. A taken token is at least as long as every later candidate, so that one which
  // overlaps it has its first or its last byte inside it.
  struct Candidate {
    Match match;
    std::size_t begin;
    bool operator<(const Candidate& other) const {
      return match.length != other.match.length ? match.length < other.match.length : begin > other.begin;
    }
  };
  std::priority_queue<Candidate> candidates;
  const auto propose = [&](std::size_t begin, std::size_t max_length) {
    if (const Match match = longest_at(text.substr(begin), max_length); match.length > 0) candidates.push({match, begin});
  };
  for (std::size_t i = 0; i < text.size(); ++i) propose(i, text.size() - i);

  std::vector<bool> covered(candidates.empty() ? 0 : text.size(), false);
  std::vector<Fragment> tokens;
  while (!candidates.empty()) {
    const Candidate best = candidates.top();
    candidates.pop();
    if (covered[best.begin]) continue;
    if (covered[best.begin + best.match.length - 1]) {
      propose(best.begin, best.match.length - 1);
      continue;
    }
    std::fill_n(covered.begin() + static_cast<std::ptrdiff_t>(best.begin), best.match.length, true);
    tokens.push_back({text.substr(best.begin, best.match.length), best.match.token});
  }
  std::sort(tokens.begin(), tokens.end(), [](const Fragment& a, const Fragment& b) { return a.text.data() < b.text.data(); });

  std::vector<Fragment> fragments;
  std::size_t done = 0;
  for (const Fragment& token : tokens) {
    const auto begin = static_cast<std::size_t>(token.text.data() - text.data());
    if (begin > done) fragments.push_back({text.substr(done, begin - done), -1});
    fragments.push_back(token);
    done = begin + token.text.size();
  }
  if (done < text.size()) fragments.push_back({text.substr(done), -1});
  return fragments;
}

}  // namespace greta
