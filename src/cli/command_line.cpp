#include "cli/command_line.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

namespace greta::cli {

std::string shell_quoted(std::string_view argument) {
  constexpr std::string_view kPlain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,@+";
  if (!argument.empty() && argument.find_first_not_of(kPlain) == std::string_view::npos) return std::string(argument);
  std::string out = "'";
  for (const char c : argument) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::vector<std::string> arguments_without(const std::vector<std::string>& arguments, const std::vector<std::string>& without,
                                           const std::vector<std::string>& flags_without) {
  const auto holds = [](const std::vector<std::string>& all, const std::string& one) {
    return std::find(all.begin(), all.end(), one) != all.end();
  };
  std::vector<std::string> out;
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (holds(flags_without, argument)) continue;
    if (holds(without, argument.substr(0, argument.find('=')))) {
      if (argument.find('=') == std::string::npos) ++i;
      continue;
    }
    out.push_back(argument);
  }
  return out;
}

std::string command_line(const std::vector<std::string>& arguments, const std::vector<std::string>& without,
                         const std::vector<std::string>& flags_without) {
  std::string out = "greta";
  for (const std::string& argument : arguments_without(arguments, without, flags_without)) out += " " + shell_quoted(argument);
  return out;
}

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return fmt::format("{:04}-{:02}-{:02}", local.tm_year + 1900, local.tm_mon + 1, local.tm_mday);
}

}  // namespace greta::cli
