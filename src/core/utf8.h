// UTF-8, one character at a time, as the Unicode Standard defines well-formed (15.0, table 3-7).
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace greta {

/// What stands at the beginning of a text.
struct Utf8Step {
  enum class Kind : std::uint8_t {
    valid,      // a whole character of `bytes` bytes
    invalid,    // `bytes` bytes that no continuation makes well-formed (the "maximal subpart": one U+FFFD)
    incomplete  // the text ends inside a character that is well-formed so far
  };
  Kind kind = Kind::invalid;
  std::size_t bytes = 1;
};

/// `text` must not be empty.
Utf8Step utf8_step(std::string_view text);

/// Byte offset of the first character that is not well-formed or not complete; nullopt where all of `text` is UTF-8.
std::optional<std::size_t> first_invalid_utf8(std::string_view text);

/// U+FFFD, what stands for bytes that are not a character.
inline constexpr std::string_view kReplacementCharacter = "\xEF\xBF\xBD";

}  // namespace greta
