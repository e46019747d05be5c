// Checks of numbers on the command line, with messages of one readable line.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <limits>
#include <string>

namespace greta::cli {

/// A whole number of at least `least`. CLI11's own NonNegativeNumber prints its limit as 309 digits.
inline CLI::Validator at_least(std::int64_t least) {
  const auto check = [least](const std::string& text) {
    std::int64_t value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= least) return std::string();
    return "'" + text + "' is not a whole number of " + std::to_string(least) + " or more";
  };
  return CLI::Validator(check, "INT>=" + std::to_string(least));
}

/// A finite number of at least 0.
inline CLI::Validator number_at_least_zero() {
  const auto check = [](const std::string& text) {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= 0 && value <= std::numeric_limits<double>::max())
      return std::string();
    return "'" + text + "' is not a number of 0 or more";
  };
  return CLI::Validator(check, "NUMBER>=0");
}

}  // namespace greta::cli
