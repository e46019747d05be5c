#include "cli/defaults.h"

#include <fmt/ranges.h>

#include <cstdlib>
#include <string>
#include <system_error>
#include <vector>

#include "cli/paths.h"
#include "core/error.h"

namespace greta::cli {

namespace fs = std::filesystem;

fs::path default_model_path() {
  std::vector<std::string> looked_at;
  const auto is_there = [&](const fs::path& path) {
    looked_at.push_back(path.string());
    std::error_code ignored;
    return fs::is_regular_file(path, ignored);
  };
  if (const char* dir = std::getenv("GRETA_MODEL_DIR"); dir != nullptr && *dir != '\0') {
    if (const fs::path path = fs::path(dir) / fs::path(kDemoModel).filename(); is_there(path)) return path;
  }
  try {
    if (const fs::path path = demo_model(); is_there(path)) return path;
  } catch (const Error&) {  // no source tree: one place fewer
    looked_at.push_back((fs::path(GRETA_SOURCE_DIR) / kDemoModel).string());
  }
  fail("no demo model at {}; name a model with --model, or make one with `greta models synth --out F.gguf`",
       fmt::join(looked_at, " or "));
}

}  // namespace greta::cli
