#include "model/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>
#include <utility>

#include "core/error.h"

namespace greta {
namespace {

std::string reason(int code) { return std::system_category().message(code); }

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

}  // namespace

std::unique_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer. It changes nothing for a regular file.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (file.get() < 0) fail("{}: cannot open: {}", path.string(), reason(errno));
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) fail("{}: cannot read its size: {}", path.string(), reason(errno));
  if (!S_ISREG(status.st_mode)) {
    fail("{}: is {}, wanted a regular file", path.string(), S_ISDIR(status.st_mode) ? "a directory" : "not a regular file");
  }
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size == 0) return std::unique_ptr<const MappedFile>(new MappedFile(path, {}));
  void* start = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (start == MAP_FAILED) fail("{}: cannot map {} bytes: {}", path.string(), size, reason(errno));
  return std::unique_ptr<const MappedFile>(new MappedFile(path, {static_cast<const std::byte*>(start), size}));
}

MappedFile::~MappedFile() {
  if (!bytes_.empty()) ::munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

}  // namespace greta
