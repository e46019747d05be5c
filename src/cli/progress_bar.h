// Progress of writing a file.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <chrono>
#include <cstdint>
#include <cstdio>

namespace greta::cli {

/// One line on stderr, redrawn at most 10 times a second; nothing where stderr is not a terminal.
class ProgressBar {
 public:
  void operator()(std::uint64_t done, std::uint64_t total) {
    const auto now = std::chrono::steady_clock::now();
    if (!terminal_ || (done < total && now - drawn_ < std::chrono::milliseconds(100))) return;
    drawn_ = now;
    constexpr std::uint64_t kWidth = 40;
    const std::uint64_t filled = total == 0 ? kWidth : done * kWidth / total;
    fmt::print(stderr, "\r[{:#<{}}{:<{}}] {:>5} of {} MiB{}", "", filled, "", kWidth - filled, done >> 20, total >> 20,
               done == total ? "\n" : "");
    std::fflush(stderr);
  }

 private:
  bool terminal_ = ::isatty(STDERR_FILENO) == 1;
  std::chrono::steady_clock::time_point drawn_;
};

}  // namespace greta::cli
