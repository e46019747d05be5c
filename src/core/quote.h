// Text from outside in a one-line message: control bytes and invalid ends cannot break the line or flood it.
#pragma once

#include <fmt/format.h>

#include <string>
#include <string_view>

namespace greta {

/// `text` between single quotes, control bytes as \xNN, cut after `limit` bytes (then followed by the true length).
inline std::string quote(std::string_view text, std::size_t limit = 96) {
  std::string out = "'";
  for (const char c : text.substr(0, limit)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7f) {
      out += fmt::format("\\x{:02x}", byte);
    } else {
      out += c;
    }
  }
  if (text.size() <= limit) return out + "'";
  return out + fmt::format("…' ({} bytes)", text.size());
}

}  // namespace greta
