#include "cli/paths.h"

#include <system_error>

#include "core/error.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;

bool is_source_tree(const fs::path& dir) {
  std::error_code ignored;
  return fs::exists(dir / "src/cli/paths.cpp", ignored) && fs::exists(dir / "CMakeLists.txt", ignored);
}

}  // namespace

fs::path executable() {
  std::error_code error;
  fs::path path = fs::read_symlink("/proc/self/exe", error);
  if (error) fail("/proc/self/exe: {}; greta needs /proc to find its own files", error.message());
  return path;
}

fs::path source_dir() {
  for (fs::path dir = executable().parent_path(); dir != dir.root_path(); dir = dir.parent_path())
    if (is_source_tree(dir)) return dir;
  if (const fs::path compiled_from = GRETA_SOURCE_DIR; is_source_tree(compiled_from)) return compiled_from;
  fail("no source tree of greta above {} or at {}; name the files on the command line", executable().string(),
       GRETA_SOURCE_DIR);
}

fs::path demo_model() { return source_dir() / kDemoModel; }

}  // namespace greta::cli
