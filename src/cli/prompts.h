// Prompts from the command line: texts and files.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace greta::cli {

struct Prompt {
  std::string id;    // the file's stem; "prompt" where the text was given itself
  std::string text;  // UTF-8, not empty
};

/// Throws Error for an empty text or one that is not UTF-8 (byte offset).
Prompt prompt_from_text(std::string text);

/// The whole file, byte for byte, its last newline included. Throws Error, one line with the file, where it is missing, not
/// readable, a directory, empty, not UTF-8 (byte offset) or larger than 64 MiB, or its name cannot be an id.
Prompt prompt_from_file(const std::filesystem::path& path);

/// Texts first, then files, in order. Throws Error as above and where two prompts would have the same id.
std::vector<Prompt> read_prompts(const std::vector<std::string>& texts, const std::vector<std::string>& files);

}  // namespace greta::cli
