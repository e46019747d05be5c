#include "trace/file_io.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <memory>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace greta {
namespace {

namespace fs = std::filesystem;
constexpr std::size_t kBuffer = std::size_t{1} << 20;

std::string reason(int error) { return std::generic_category().message(error); }

/// Closes on scope exit.
class Descriptor {
 public:
  explicit Descriptor(int fd) : fd_(fd) {}
  ~Descriptor() {
    if (fd_ >= 0) ::close(fd_);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  int get() const { return fd_; }

 private:
  int fd_;
};

int open_again(const char* path, int flags, mode_t mode = 0) {
  int fd = -1;
  do fd = ::open(path, flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  return fd;
}

int open_to_read(const fs::path& path, int flags = 0) {
  const int fd = open_again(path.c_str(), O_RDONLY | flags);
  if (fd < 0) fail("{}: cannot be opened: {}", path.string(), reason(errno));
  return fd;
}

std::size_t read_some(int fd, char* to, std::size_t size, const fs::path& path) {
  while (true) {
    const ssize_t got = ::read(fd, to, size);
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) fail("{}: cannot be read: {}", path.string(), reason(errno));
  }
}

/// Of a temporary file: hidden, beside the target, not taken.
fs::path temporary_beside(const fs::path& target) {
  static std::atomic<unsigned> serial{0};
  return target.parent_path() / fmt::format(".{}.{}.{}.tmp", target.filename().string().substr(0, 200), ::getpid(), serial++);
}

}  // namespace

OutputFile::OutputFile(fs::path path) : path_(std::move(path)) {
  if (path_.filename().empty()) fail("'{}': names no file; give the name of a file", path_.string());
  std::error_code ignored;
  target_ = fs::weakly_canonical(fs::absolute(path_, ignored), ignored);
  if (target_.empty()) target_ = path_;
  struct stat status {};
  const bool exists = ::stat(target_.c_str(), &status) == 0;
  if (exists && S_ISDIR(status.st_mode)) fail("{}: is a directory; give the name of a file", path_.string());
  if (exists && !S_ISREG(status.st_mode)) {
    fd_ = open_again(target_.c_str(), O_WRONLY);
  } else {
    temporary_ = temporary_beside(target_);
    fd_ = open_again(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL, 0666);
  }
  if (fd_ < 0) {
    temporary_.clear();
    fail("{}: cannot be written: {}", path_.string(), reason(errno));
  }
}

OutputFile::~OutputFile() { abandon(); }

void OutputFile::abandon() noexcept {
  if (fd_ >= 0) ::close(fd_);
  fd_ = -1;
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
  temporary_.clear();
}

void OutputFile::write(std::span<const std::byte> bytes) {
  const auto* text = reinterpret_cast<const char*>(bytes.data());
  for (std::size_t at = 0; at < bytes.size();) {
    const std::size_t piece = std::min(bytes.size() - at, kBuffer - buffer_.size());
    buffer_.append(text + at, piece);
    at += piece;
    if (buffer_.size() == kBuffer) flush();
  }
}

void OutputFile::flush() {
  for (std::size_t at = 0; at < buffer_.size();) {
    const ssize_t done = ::write(fd_, buffer_.data() + at, buffer_.size() - at);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) {
      const int error = errno;
      abandon();
      fail("{}: writing stopped after {} bytes: {}; nothing was changed, free some space or choose another place",
           path_.string(), written_, reason(error));
    }
    at += static_cast<std::size_t>(done);
    written_ += static_cast<std::uint64_t>(done);
  }
  buffer_.clear();
}

void OutputFile::commit() {
  flush();
  const auto stop = [&](const char* what) {
    const int error = errno;
    abandon();
    fail("{}: {}: {}; nothing was changed", path_.string(), what, reason(error));
  };
  if (!temporary_.empty() && ::fsync(fd_) != 0) stop("cannot be made durable");
  if (::close(std::exchange(fd_, -1)) != 0) stop("cannot be closed");
  if (temporary_.empty()) return;
  if (::rename(temporary_.c_str(), target_.c_str()) != 0) stop("cannot be put in place");
  temporary_.clear();
  sync_path(target_.parent_path());
}

void atomic_write_file(const fs::path& path, std::string_view content) {
  OutputFile file(path);
  file.write(content);
  file.commit();
}

std::string read_file(const fs::path& path, std::uint64_t max_bytes) {
  const Descriptor file(open_to_read(path, O_NONBLOCK));  // a pipe without a writer is refused, not waited for
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail("{}: cannot be read: {}", path.string(), reason(errno));
  if (!S_ISREG(status.st_mode)) fail("{}: is no regular file", path.string());
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (size > max_bytes) fail("{}: {} bytes, more than the {} that such a file may have", path.string(), size, max_bytes);
  std::string out(static_cast<std::size_t>(size), '\0');
  std::size_t at = 0;
  while (at < out.size()) {
    const std::size_t got = read_some(file.get(), out.data() + at, out.size() - at, path);
    if (got == 0) break;
    at += got;
  }
  out.resize(at);
  return out;
}

FileSummary summarise_file(const fs::path& path) {
  const Descriptor file(open_to_read(path));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0 || !S_ISREG(status.st_mode)) fail("{}: is no regular file", path.string());
  const std::unique_ptr<XXH3_state_t, decltype(&XXH3_freeState)> state(XXH3_createState(), XXH3_freeState);
  if (!state) throw std::bad_alloc();
  XXH3_64bits_reset(state.get());
  const auto buffer = std::make_unique<char[]>(kBuffer);
  FileSummary out;
  while (const std::size_t got = read_some(file.get(), buffer.get(), kBuffer, path)) {
    XXH3_64bits_update(state.get(), buffer.get(), got);
    out.size += got;
  }
  out.xxh3 = XXH3_64bits_digest(state.get());
  return out;
}

void make_directories(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) fail("{}: cannot be made: {}", path.string(), error.message());
}

void sync_path(const fs::path& path) {
  const Descriptor file(open_to_read(path.empty() ? fs::path(".") : path));
  // Some file systems cannot sync a directory and say so by EINVAL: nothing more can be done there.
  if (::fsync(file.get()) != 0 && errno != EINVAL) fail("{}: cannot be made durable: {}", path.string(), reason(errno));
}

bool is_file_name(std::string_view name) {
  if (name.empty() || name == "." || name == ".." || name.size() > 200) return false;
  return std::none_of(name.begin(), name.end(),
                      [](char c) { return c == '/' || static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
}

}  // namespace greta
