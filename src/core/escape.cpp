#include "core/escape.h"

#include <fmt/format.h>

#include "core/utf8.h"

namespace greta {

std::string escaped(std::string_view bytes, std::size_t limit) {
  std::string out = "\"";
  for (std::size_t done = 0; done < bytes.size();) {
    const std::string_view rest = bytes.substr(done);
    const Utf8Step step = utf8_step(rest);
    const auto byte = static_cast<unsigned char>(rest[0]);
    if (step.bytes > limit - done) return out + fmt::format("…\" ({} bytes)", bytes.size());
    if (byte == '\n') {
      out += "\\n";
    } else if (byte == '\t') {
      out += "\\t";
    } else if (byte == '\r') {
      out += "\\r";
    } else if (byte == '"' || byte == '\\') {
      out += {'\\', rest[0]};
    } else if (step.kind == Utf8Step::Kind::valid && byte >= 0x20 && byte != 0x7f) {
      out += rest.substr(0, step.bytes);
    } else {
      for (const char c : rest.substr(0, step.bytes)) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    done += step.bytes;
  }
  return out + "\"";
}

}  // namespace greta
