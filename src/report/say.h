// One sentence in two languages, both checked against the same arguments when compiled.
#pragma once

#include <fmt/format.h>

#include <string>
#include <type_traits>
#include <utility>

namespace greta::report {

template <class... Args>
std::string say(bool spanish, fmt::format_string<Args...> in_spanish, fmt::format_string<Args...> in_english, Args&&... args) {
  return fmt::format(spanish ? in_spanish : in_english, std::forward<Args>(args)...);
}

}  // namespace greta::report
