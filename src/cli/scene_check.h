// Does a stored scene fit the model file that its op is held to? The search for a cause takes rows and tensors at their word.
#pragma once

#include <filesystem>

#include "cli/scene.h"
#include "model/gguf.h"

namespace greta::cli {

/// Rows as wide as the model makes them, at positions that have a token, tokens of the vocabulary, tensors of the shapes that
/// the ops read them in. Throws Error, one line: `source` (the scene's file) or the model file, the actual value, what was
/// wanted.
void check_scene(const SceneRows& scene, int n_layers, const Gguf& file, const std::filesystem::path& source);

}  // namespace greta::cli
