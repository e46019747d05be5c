#include "cli/source_tree.h"

#include <sys/stat.h>
#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <memory>
#include <system_error>

#include "cli/process.h"
#include "core/error.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;

class Hasher {
 public:
  Hasher() : state_(XXH3_createState(), XXH3_freeState) { XXH3_128bits_reset(state_.get()); }
  void add(const void* data, std::size_t size) { XXH3_128bits_update(state_.get(), data, size); }
  /// With its length, so that no two lists of texts run together to the same bytes.
  void add_text(const std::string& text) {
    const std::uint64_t size = text.size();
    add(&size, sizeof size);
    add(text.data(), text.size());
  }
  std::string hex() const {
    const XXH128_hash_t hash = XXH3_128bits_digest(state_.get());
    return fmt::format("{:016x}{:016x}", hash.high64, hash.low64);
  }

 private:
  std::unique_ptr<XXH3_state_t, XXH_errorcode (*)(XXH3_state_t*)> state_;
};

void add_file(Hasher& hasher, const fs::path& root, const std::string& file) {
  const fs::path path = root / file;
  struct stat info {};
  if (lstat(path.c_str(), &info) != 0) fail("{}: {}", path.string(), std::strerror(errno));
  hasher.add_text(file);
  if (S_ISLNK(info.st_mode)) return hasher.add_text("-> " + fs::read_symlink(path).string());
  hasher.add_text((info.st_mode & S_IXUSR) != 0 ? "x" : "-");
  std::ifstream in(path, std::ios::binary);
  const auto size = static_cast<std::uint64_t>(info.st_size);
  hasher.add(&size, sizeof size);
  std::array<char, 1 << 16> buffer;
  while (in.read(buffer.data(), buffer.size()) || in.gcount() > 0)
    hasher.add(buffer.data(), static_cast<std::size_t>(in.gcount()));
  if (!in.eof()) fail("{}: cannot be read", path.string());
}

}  // namespace

SourceTree read_source_tree(const fs::path& root) {
  const Outcome listed = run_command({{"git", "-C", root.string(), "ls-files", "-z"}, "", Sink::keep, Sink::keep});
  if (listed.exit_code != 0)
    fail("{}: git ls-files: {}; greta remote copies the files that git tracks", root.string(), last_line(listed.err));
  SourceTree tree{root, {}, ""};
  for (std::size_t begin = 0; begin < listed.out.size();) {
    const auto end = std::min(listed.out.find('\0', begin), listed.out.size());
    std::string file = listed.out.substr(begin, end - begin);
    begin = end + 1;
    std::error_code missing;  // a tracked file may be deleted in the work tree
    if (fs::exists(fs::symlink_status(root / file, missing))) tree.files.push_back(std::move(file));
  }
  std::sort(tree.files.begin(), tree.files.end());
  if (tree.files.empty()) fail("{}: git tracks no files there", root.string());
  Hasher hasher;
  for (const std::string& file : tree.files) add_file(hasher, root, file);
  tree.hash = hasher.hex();
  return tree;
}

}  // namespace greta::cli
