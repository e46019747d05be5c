#include "isolate/toml_table.h"

#include "core/utf8.h"

namespace greta::isolate {

toml::table parse_toml(std::string_view text, std::string_view where) {
  if (const auto bad = first_invalid_utf8(text)) fail("{}: invalid UTF-8 at byte {}; save it as UTF-8", where, *bad);
  try {
    return toml::parse(text);
  } catch (const toml::parse_error& error) {
    fail("{}: line {}, column {}: {}", where, error.source().begin.line, error.source().begin.column,
         quote(error.description(), 200));
  }
}

void check_id(std::string_view id, std::string_view where) {
  const bool plain = !id.empty() && id.size() <= 64 && id.front() != '.' && std::all_of(id.begin(), id.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
  });
  if (!plain) fail("{}: id {} is not 1 to 64 of A-Z a-z 0-9 _ - . (it names files)", where, quote(id));
}

}  // namespace greta::isolate
