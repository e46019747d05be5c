// Errors of greta: one line that says what, where, the actual value and what to do.
#pragma once

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <tl/expected.hpp>
#include <utility>

namespace greta {

/// Exit codes of every verb (docs/architecture.md, "Verdicts and exit codes").
enum class ExitCode : int { ok = 0, diverged = 1, misuse = 2, interrupted = 130 };

/// A failure that ends the verb: bad input, a file that cannot be written, a request that cannot be met.
/// Thrown; `main` prints `greta: error: <what()>` on stderr and returns exit code 2.
class Error : public std::runtime_error {
 public:
  explicit Error(const std::string& one_line) : std::runtime_error(one_line) {}
};

/// Throws Error with a formatted message: `fail("{}: tensor '{}' ends at {} past the end {}", ...)`.
template <class... Args>
[[noreturn]] void fail(fmt::format_string<Args...> format, Args&&... args) {
  throw Error(fmt::format(format, std::forward<Args>(args)...));
}

/// For readers whose failures are data (a JSONL line that cannot be read is reported, and reading goes on).
template <class T>
using Result = tl::expected<T, std::string>;

}  // namespace greta
