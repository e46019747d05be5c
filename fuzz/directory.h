// A directory of files for readers that open several.
#pragma once

#include <stdlib.h>

#include <filesystem>
#include <fstream>
#include <initializer_list>
#include <string>
#include <string_view>

#include "fuzz/fuzz.h"

namespace greta::fuzz {

/// In memory where the system has such a place, removed at the end.
class Directory {
 public:
  explicit Directory(std::initializer_list<const char*> folders) {
    namespace fs = std::filesystem;
    const fs::path parent = fs::is_directory("/dev/shm") ? fs::path("/dev/shm") : fs::temp_directory_path();
    std::string name = (parent / "greta_fuzz_XXXXXX").string();
    require(::mkdtemp(name.data()) != nullptr, "a temporary directory");
    path_ = name;
    for (const char* folder : folders) fs::create_directories(path_ / folder);
  }
  ~Directory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  Directory(const Directory&) = delete;
  Directory& operator=(const Directory&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

inline void write(const std::filesystem::path& path, std::string_view content) {
  std::ofstream out(path, std::ios::binary);
  out.write(content.data(), static_cast<std::streamsize>(content.size()));
}

}  // namespace greta::fuzz
