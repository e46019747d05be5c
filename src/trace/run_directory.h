// A run's directory: written under another name, renamed when whole, verified before anything in it is believed.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace greta {

inline constexpr std::string_view kIncompleteSuffix = ".incomplete";
inline constexpr std::string_view kManifestName = "manifest.json";

struct RunDirectoryOptions {
  std::filesystem::path out;  // as the user gave it; empty: <root>/<date>/<experiment>[-N]
  std::filesystem::path root = "artifacts/alignment";
  std::string date;        // YYYY-MM-DD
  std::string experiment;  // "b3_41"
};

/// While it lives it holds a lock, so that two runs never write into one directory; what a killed run left under the same name
/// is cleared. Without `finish` the `.incomplete` directory stays, and readers refuse it.
class RunDirectory {
 public:
  /// Makes <name>.incomplete/. Throws Error: an explicit directory that exists and is not empty, one that another run is
  /// writing, a parent that cannot be made.
  explicit RunDirectory(const RunDirectoryOptions& options);
  ~RunDirectory();
  RunDirectory(const RunDirectory&) = delete;
  RunDirectory& operator=(const RunDirectory&) = delete;

  /// Where the directory will be after `finish`.
  const std::filesystem::path& path() const { return path_; }
  /// Where files go now; parent directories of `relative` are made.
  std::filesystem::path file(const std::filesystem::path& relative) const;
  void write(const std::filesystem::path& relative, std::string_view content) const;
  /// Writes the manifest, makes everything durable and renames. Throws Error; the `.incomplete` directory then stays.
  void finish();

 private:
  bool claim(const std::filesystem::path& path, bool is_default);

  std::filesystem::path path_, work_;
  std::string experiment_;
  int lock_ = -1;
};

struct ManifestFile {
  std::string path;        // relative, '/'
  std::uint64_t size = 0;  // bytes
  std::uint64_t xxh3 = 0;
};

struct Manifest {
  std::string experiment;
  std::vector<ManifestFile> files;  // by path
};

/// Whether `directory` holds a manifest.
bool is_run_directory(const std::filesystem::path& directory);
/// Reads the manifest and checks size and hash of every file in it. Throws Error naming the directory and the first file that
/// is missing, cut or altered; for a `.incomplete` directory (or a name of which only that exists) it says what happened.
/// Files that the manifest does not name are not read.
Manifest verify_run_directory(const std::filesystem::path& directory);
/// Throws Error where `path` is, or only exists as, a directory that a run left incomplete.
void refuse_incomplete(const std::filesystem::path& path);

}  // namespace greta
