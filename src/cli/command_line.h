// The command line as text, to be run again.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace greta::cli {

/// Quoted for a POSIX shell where it has to be.
std::string shell_quoted(std::string_view argument);

/// The arguments without the options named in `without` (each with its value) and the flags in `flags_without`.
std::vector<std::string> arguments_without(const std::vector<std::string>& arguments, const std::vector<std::string>& without,
                                           const std::vector<std::string>& flags_without);
/// "greta ARGUMENTS", without the options named in `without` (each with its value) and the flags in `flags_without`.
std::string command_line(const std::vector<std::string>& arguments, const std::vector<std::string>& without,
                         const std::vector<std::string>& flags_without);

/// YYYY-MM-DD, local time.
std::string today();

}  // namespace greta::cli
