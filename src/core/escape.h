// Any bytes as one line of printable text.
#pragma once

#include <string>
#include <string_view>

namespace greta {

/// `bytes` in double quotes: newline, tab, carriage return, `"` and `\` with a backslash; other control characters and bytes
/// that are no whole character as \xNN. Cut before the character that would pass `limit` bytes, then followed by "…" and the
/// length.
std::string escaped(std::string_view bytes, std::size_t limit = std::string_view::npos);

}  // namespace greta
