// Where greta finds what belongs to it: its source tree, and in it the demo model and the built-in experiments.
#pragma once

#include <filesystem>
#include <string_view>

namespace greta::cli {

/// The running executable, absolute.
std::filesystem::path executable();

/// The source tree: the one that the executable lies in (`<tree>/build/<preset>/greta`), so that a tree can be moved or copied
/// with its build; else the one it was compiled from. Throws Error where neither is there.
std::filesystem::path source_dir();

/// The model of every command that is given none; below source_dir().
inline constexpr std::string_view kDemoModel = "models/greta-demo.gguf";
std::filesystem::path demo_model();

}  // namespace greta::cli
