#include "trace/run_directory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "core/quote.h"
#include "trace/file_io.h"
#include "trace/json.h"

namespace greta {
namespace {

namespace fs = std::filesystem;
/// In the `.incomplete` directory: locked by the run that writes there. A lock that nobody holds marks what a killed run left.
constexpr std::string_view kLockName = ".writing";

std::string reason(int error) { return std::generic_category().message(error); }

fs::path incomplete(const fs::path& path) { return path.string() + std::string(kIncompleteSuffix); }

bool is_there(const fs::path& path) {
  std::error_code error;
  return fs::exists(fs::symlink_status(path, error));
}

/// Absolute, without ".", ".." and links, without a slash at the end.
fs::path plain(const fs::path& path) {
  std::error_code error;
  std::string text = fs::weakly_canonical(fs::absolute(path), error).string();
  if (error) text = fs::absolute(path).lexically_normal().string();
  while (text.size() > 1 && text.ends_with('/')) text.pop_back();
  return text;
}

void refuse_used(const fs::path& path, const fs::path& as_given) {
  std::error_code error;
  if (!is_there(path)) return;
  if (!fs::is_directory(path, error)) fail("{}: exists and is no directory; choose another --out", as_given.string());
  const bool empty = fs::is_empty(path, error);
  if (error) fail("{}: cannot be read: {}", as_given.string(), error.message());
  if (!empty) fail("{}: the directory is not empty; choose another --out (nothing was written)", as_given.string());
}

bool is_same_file(int fd, const fs::path& path) {
  struct stat open {
  }, there{};
  return ::fstat(fd, &open) == 0 && ::stat(path.c_str(), &there) == 0 && open.st_dev == there.st_dev &&
         open.st_ino == there.st_ino;
}

/// Removes all but the lock.
void clear(const fs::path& directory) {
  std::error_code error;
  std::vector<fs::path> rest;
  for (fs::directory_iterator it(directory, error), end; !error && it != end; it.increment(error))
    if (it->path().filename() != kLockName) rest.push_back(it->path());
  for (const fs::path& path : rest)
    if (!error) fs::remove_all(path, error);
  if (error) fail("{}: what a killed run left there cannot be removed: {}", directory.string(), error.message());
}

/// Files under `directory` but the lock, by path.
std::vector<std::string> files_under(const fs::path& directory) {
  std::vector<std::string> out;
  std::error_code error;
  for (fs::recursive_directory_iterator it(directory, error), end; !error && it != end; it.increment(error)) {
    if (it->is_directory(error)) continue;
    std::string name = it->path().lexically_relative(directory).generic_string();
    if (name != kLockName && name != kManifestName) out.push_back(std::move(name));
  }
  if (error) fail("{}: cannot be read: {}", directory.string(), error.message());
  std::sort(out.begin(), out.end());
  return out;
}

std::string manifest_text(const fs::path& directory, const std::string& experiment) {
  std::string files;
  for (const std::string& name : files_under(directory)) {
    const FileSummary summary = summarise_file(directory / name);
    files += files.empty() ? "\n  " : ",\n  ";
    json::ObjectWriter entry(files);
    entry.field("path", name)
        .field("size", static_cast<std::int64_t>(summary.size))
        .field("xxh3", fmt::format("{:016x}", summary.xxh3));
    entry.end();
  }
  std::string out = "{\n\"schema\":1,\n\"experiment\":";
  json::append_string(out, experiment);
  out += ",\n\"files\":[" + files + "\n]\n}\n";
  return out;
}

void sync_tree(const fs::path& directory) {
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(directory)) sync_path(entry.path());
  sync_path(directory);
}

}  // namespace

RunDirectory::RunDirectory(const RunDirectoryOptions& options) : experiment_(options.experiment) {
  if (!is_file_name(options.experiment)) fail("experiment id {} cannot name a directory", quote(options.experiment));
  if (!options.out.empty()) {
    const fs::path path = plain(options.out);
    refuse_used(path, options.out);
    if (!is_file_name(path.filename().string()))
      fail("{}: cannot name a run directory; choose another --out", options.out.string());
    make_directories(path.parent_path());
    claim(path, false);
    return;
  }
  const fs::path parent = plain(options.root / options.date);
  make_directories(parent);
  for (int n = 1; n <= 100'000; ++n) {
    const fs::path path = parent / (n == 1 ? options.experiment : fmt::format("{}-{}", options.experiment, n));
    if (!is_there(path) && claim(path, true)) return;
  }
  fail("{}: 100,000 runs of {} are there; give --out", parent.string(), options.experiment);
}

/// Makes the `.incomplete` directory and locks it, or takes over one that a killed run left: its lock file says that it is ours
/// (or it is empty: killed before it had one), and nobody holds the lock. Of a default name false where somebody has it.
bool RunDirectory::claim(const fs::path& path, bool is_default) {
  path_ = path;
  work_ = incomplete(path);
  const bool is_new = ::mkdir(work_.c_str(), 0777) == 0;
  if (!is_new && errno != EEXIST) fail("{}: cannot be made: {}", work_.string(), reason(errno));
  std::error_code ignored;
  const bool may_lock_anew = is_new || fs::is_empty(work_, ignored);
  lock_ = ::open((work_ / kLockName).c_str(), O_RDWR | O_CLOEXEC | (may_lock_anew ? O_CREAT : 0), 0666);
  int error = errno;
  if (lock_ >= 0) {
    error = ::flock(lock_, LOCK_EX | LOCK_NB) == 0 ? 0 : errno;
    // The run that held it may have finished in between, and taken the directory with it.
    if (error == 0 && !is_same_file(lock_, work_ / kLockName)) error = EWOULDBLOCK;
  }
  if (error == 0) {
    clear(work_);
    return true;
  }
  if (lock_ >= 0) ::close(std::exchange(lock_, -1));
  if (error == EWOULDBLOCK) {
    if (is_default) return false;
    fail("{}: another run is writing there; wait for it or choose another --out", work_.string());
  }
  if (error == ENOENT || error == ENOTDIR) {
    if (is_default) return false;
    fail("{}: in the way, and not left by a run of greta; move it or choose another --out", work_.string());
  }
  fail("{}: cannot be locked: {}; choose another --out", work_.string(), reason(error));
}

RunDirectory::~RunDirectory() {
  if (lock_ >= 0) ::close(lock_);
}

fs::path RunDirectory::file(const fs::path& relative) const {
  const fs::path path = work_ / relative;
  make_directories(path.parent_path());
  return path;
}

void RunDirectory::write(const fs::path& relative, std::string_view content) const {
  atomic_write_file(file(relative), content);
}

void RunDirectory::finish() {
  atomic_write_file(work_ / kManifestName, manifest_text(work_, experiment_));
  sync_tree(work_);
  if (::rename(work_.c_str(), path_.c_str()) != 0)
    fail("{}: cannot take its name {}: {}; everything is in the first", work_.string(), path_.string(), reason(errno));
  ::unlink((path_ / kLockName).c_str());
  sync_path(path_.parent_path());
  work_ = path_;
}

}  // namespace greta
