// What a verb uses where the command line does not say.
#pragma once

#include <filesystem>

namespace greta::cli {

/// The demo model: `greta-demo.gguf` in $GRETA_MODEL_DIR, else `models/greta-demo.gguf` of the source tree that the executable
/// lies in or was compiled from. Throws Error naming the places looked at and the way out.
std::filesystem::path default_model_path();

}  // namespace greta::cli
