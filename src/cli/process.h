// Running other programs: no shell, arguments as they are, output bounded, Ctrl-C obeyed.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace greta::cli {

/// Where a child's stdout or stderr goes.
enum class Sink { keep, to_stderr };

struct Command {
  std::vector<std::string> argv;  // argv[0] is looked up in PATH
  std::string input;              // the child's whole stdin
  Sink out = Sink::keep;
  Sink err = Sink::keep;
};

struct Outcome {
  int exit_code = 0;  // 128 + signal where one ended it
  std::string out;    // the last kKeptBytes of what was kept
  std::string err;
};
inline constexpr std::size_t kKeptBytes = std::size_t{16} << 20;

/// Runs a command to its end. Throws Error where it cannot be started, and Interrupted after Ctrl-C (the child is ended first).
Outcome run_command(const Command& command);

/// The last line of `text` that is not blank; empty where there is none.
std::string last_line(const std::string& text);

/// Thrown at Ctrl-C while an InterruptGuard lives: stacks unwind and clean up, then the verb returns 130.
struct Interrupted {};

/// While one lives, SIGINT, SIGTERM and SIGHUP are noted instead of ending the process, and run_command throws Interrupted.
class InterruptGuard {
 public:
  InterruptGuard();
  ~InterruptGuard();
  InterruptGuard(const InterruptGuard&) = delete;
  InterruptGuard& operator=(const InterruptGuard&) = delete;
  /// Forgets a noted signal, so that cleaning up can run commands.
  static void clear();
  static bool noted();
};

}  // namespace greta::cli
