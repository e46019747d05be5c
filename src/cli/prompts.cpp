#include "cli/prompts.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>

#include "core/error.h"
#include "core/quote.h"
#include "core/utf8.h"

namespace greta::cli {
namespace {

constexpr std::size_t kMaxPromptBytes = std::size_t{64} << 20;

/// `name` is what the message calls it: the file, or the option.
void check_text(std::string_view text, const std::string& name) {
  if (text.empty()) fail("{}: the prompt is empty; give it some text", name);
  if (const auto offset = first_invalid_utf8(text)) {
    fail("{}: the prompt is not UTF-8 at byte {} (0x{:02x}); convert it to UTF-8", name, *offset,
         static_cast<unsigned char>(text[*offset]));
  }
}

class File {
 public:
  explicit File(const std::filesystem::path& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
  ~File() {
    if (fd_ >= 0) ::close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  bool is_open() const { return fd_ >= 0; }
  ssize_t read(char* to, std::size_t bytes) const { return ::read(fd_, to, bytes); }

 private:
  int fd_;
};

/// Works for pipes too; a file without end is given up at the limit.
std::string read_whole(const std::filesystem::path& path) {
  const File file(path);
  if (!file.is_open()) fail("{}: cannot open the prompt file: {}", path.string(), std::strerror(errno));
  std::string text;
  std::array<char, 1 << 16> chunk{};
  for (;;) {
    const ssize_t got = file.read(chunk.data(), chunk.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail("{}: cannot read the prompt file: {}", path.string(), std::strerror(errno));
    if (got == 0) return text;
    text.append(chunk.data(), static_cast<std::size_t>(got));
    if (text.size() > kMaxPromptBytes)
      fail("{}: the prompt file is larger than {} bytes; cut it", path.string(), kMaxPromptBytes);
  }
}

/// Ids name files and stand in tab-separated tables.
std::string id_of(const std::filesystem::path& path) {
  std::string id = path.stem().string();
  const bool control =
      std::any_of(id.begin(), id.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
  if (id.empty() || control || first_invalid_utf8(id)) {
    fail("{}: the file's name cannot be a prompt id; rename it to UTF-8 without control characters", quote(path.string()));
  }
  return id;
}

}  // namespace

Prompt prompt_from_text(std::string text) {
  check_text(text, "--prompt");
  return {"prompt", std::move(text)};
}

Prompt prompt_from_file(const std::filesystem::path& path) {
  Prompt prompt{id_of(path), read_whole(path)};
  check_text(prompt.text, path.string());
  return prompt;
}

std::vector<Prompt> read_prompts(const std::vector<std::string>& texts, const std::vector<std::string>& files) {
  std::vector<Prompt> prompts;
  std::map<std::string, std::string> sources;  // by id
  const auto add = [&](Prompt prompt, const std::string& source) {
    const auto [entry, fresh] = sources.emplace(prompt.id, source);
    if (!fresh) fail("prompt id '{}' of {} is that of {} too; rename one", prompt.id, source, entry->second);
    prompts.push_back(std::move(prompt));
  };
  for (const std::string& text : texts) add(prompt_from_text(text), "--prompt");
  for (const std::string& file : files) add(prompt_from_file(file), file);
  return prompts;
}

}  // namespace greta::cli
