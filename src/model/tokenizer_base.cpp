#include "model/tokenizer_base.h"

#include "core/error.h"
#include "core/quote.h"
#include "core/utf8.h"

namespace greta {
namespace {

/// Positions of symbols are 32 bits wide, and a prompt is no place for a gigabyte.
constexpr std::size_t kMaxTextBytes = std::size_t{1} << 30;

}  // namespace

TokenizerBase::TokenizerBase(const TokenizerData& data, bool needs_scores)
    : vocabulary_(data, needs_scores), user_defined_(vocabulary_, false), all_special_(vocabulary_, true) {}

std::vector<TokenId> TokenizerBase::encode(std::string_view text, bool add_special, bool parse_special) const {
  if (text.size() > kMaxTextBytes) fail("the text has {} bytes, wanted at most {}; cut it", text.size(), kMaxTextBytes);
  if (const auto offset = first_invalid_utf8(text)) {
    fail("the text is not UTF-8 at byte {} (0x{:02x}); convert it to UTF-8", *offset,
         static_cast<unsigned char>(text[*offset]));
  }
  std::vector<TokenId> ids;
  for (const Fragment& fragment : (parse_special ? all_special_ : user_defined_).split(text)) {
    if (fragment.token < 0) {
      encode_text(fragment.text, ids);
    } else {
      ids.push_back(fragment.token);
    }
  }
  if (add_special) {
    const TokenId bos = vocabulary_.bos(), eos = vocabulary_.eos();
    if (vocabulary_.add_bos() && (ids.empty() || ids.front() != bos)) ids.insert(ids.begin(), bos);
    if (vocabulary_.add_eos() && (ids.empty() || ids.back() != eos)) ids.push_back(eos);
  }
  return ids;
}

std::string TokenizerBase::token_bytes(TokenId id, bool special) const {
  vocabulary_.check(id);
  const std::string_view text = vocabulary_.text(id);
  switch (vocabulary_.type(id)) {
    case TokenType::control:
    case TokenType::unknown:
      return special ? std::string(text) : std::string();
    case TokenType::user_defined:
      return std::string(text);  // stands in the input as it is
    case TokenType::byte:
      return std::string(1, static_cast<char>(vocabulary_.byte_value(id)));
    case TokenType::undefined:
    case TokenType::normal:
    case TokenType::unused:
      break;
  }
  return unescape(text);
}

bool TokenizerBase::is_special(TokenId id) const {
  vocabulary_.check(id);
  return vocabulary_.is_special(id);
}

TokenId TokenizerBase::find_special(std::string_view text) const {
  const TokenId id = vocabulary_.find(text);
  return id >= 0 && vocabulary_.is_special(id) ? id : -1;
}

void TokenizerBase::append_unknown(std::string_view text, std::vector<TokenId>& ids) const {
  if (vocabulary_.unknown() < 0) {
    fail("{}: the vocabulary has no token for {} of the text and no unknown token; leave it out of the text",
         vocabulary_.source(), quote(text));
  }
  ids.push_back(vocabulary_.unknown());
}

}  // namespace greta
