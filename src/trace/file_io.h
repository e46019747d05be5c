// Files written whole or not at all, and read with limits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>

namespace greta {

/// A file being written, in order, through a buffer. Every failure (disk full, no permission) throws Error with path, bytes
/// written and the system's reason; the target is then as it was before.
///
/// The bytes go to a temporary file beside the target, which `commit` makes durable and renames over it: a reader sees the old
/// file or the new one. A target that exists and is no regular file (a device, a pipe) is written directly.
class OutputFile {
 public:
  explicit OutputFile(std::filesystem::path path);
  ~OutputFile();  // without commit: the temporary file is removed
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void commit();
  const std::filesystem::path& path() const { return path_; }

 private:
  void flush();
  void abandon() noexcept;

  std::filesystem::path path_;       // as it was given
  std::filesystem::path target_;     // symbolic links resolved
  std::filesystem::path temporary_;  // empty: written directly
  int fd_ = -1;
  std::uint64_t written_ = 0;
  std::string buffer_;
};

/// Whole content, atomically (see OutputFile).
void atomic_write_file(const std::filesystem::path& path, std::string_view content);

/// Whole content of a regular file. Throws Error where it cannot be read or is larger than `max_bytes`.
std::string read_file(const std::filesystem::path& path, std::uint64_t max_bytes);

struct FileSummary {
  std::uint64_t size = 0;  // bytes
  std::uint64_t xxh3 = 0;  // XXH3-64, seed 0
};
/// Throws Error where the file cannot be read.
FileSummary summarise_file(const std::filesystem::path& path);

/// Makes directories; throws Error naming the first that cannot be made.
void make_directories(const std::filesystem::path& path);
/// Makes a file's or directory's content durable. Throws Error.
void sync_path(const std::filesystem::path& path);

/// Usable as one component of a path: not empty, not "." or "..", no '/', no control bytes, at most 200 bytes.
bool is_file_name(std::string_view name);

}  // namespace greta
