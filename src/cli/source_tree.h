// The source as another machine gets it: the tracked files, named by one hash of their contents.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace greta::cli {

struct SourceTree {
  std::filesystem::path root;
  std::vector<std::string> files;  // relative to root, sorted; tracked by git and present
  std::string hash;                // 32 hexadecimal digits: XXH3-128 of every path, executable bit and content
};

/// Throws Error where `root` is no git checkout or a file cannot be read.
SourceTree read_source_tree(const std::filesystem::path& root);

}  // namespace greta::cli
