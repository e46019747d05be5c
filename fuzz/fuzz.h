// What the fuzz targets share. A target is one file with one LLVMFuzzerTestOneInput: linked to libFuzzer it is fuzzed, linked
// to replay.cpp it is a test (docs/fuzzing.md).
#pragma once

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "core/error.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace greta::fuzz {

/// A finding: the process dies, so that the input is kept.
inline void require(bool holds, std::string_view what, std::string_view detail = {}) {
  if (holds) return;
  const std::string line = "fuzz: broken promise: " + std::string(what) + ": " + std::string(detail.substr(0, 4000)) + "\n";
  std::fputs(line.c_str(), stderr);
  std::abort();
}

/// Messages are one line that input can neither break nor flood.
inline void require_one_line(std::string_view message) {
  const bool plain = std::none_of(message.begin(), message.end(), [](char c) {
    const auto byte = static_cast<unsigned char>(c);
    return byte < 0x20 || byte == 0x7f;
  });
  require(plain, "a message without control bytes", message);
  require(!message.empty() && message.size() <= 4096, "a message of 1 to 4096 bytes", message);
}

/// True where `action` returns, false where it refuses by Error. Every other exception ends the process.
template <class Action>
bool accepts(Action&& action) {
  try {
    std::forward<Action>(action)();
  } catch (const Error& error) {
    require_one_line(error.what());
    return false;
  }
  return true;
}

inline std::string_view text_of(const std::uint8_t* data, std::size_t size) {
  return {reinterpret_cast<const char*>(data), size};
}

/// A file in memory with a path, for readers that open one. One for the whole process: opening is a large part of a run.
class MemoryFile {
 public:
  MemoryFile() : fd_(::memfd_create("greta-fuzz", MFD_CLOEXEC)) {
    require(fd_ >= 0, "a file in memory");
    path_ = fmt::format("/proc/self/fd/{}", fd_);
  }
  ~MemoryFile() { ::close(fd_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  const std::string& path() const { return path_; }
  void fill(std::string_view content) {
    require(::ftruncate(fd_, 0) == 0, "an emptied file");
    for (std::size_t at = 0; at < content.size();) {
      const ssize_t done = ::pwrite(fd_, content.data() + at, content.size() - at, static_cast<off_t>(at));
      require(done > 0, "a written file");
      at += static_cast<std::size_t>(done);
    }
  }

 private:
  int fd_;
  std::string path_;
};

}  // namespace greta::fuzz
