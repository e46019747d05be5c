// Scenes in a run directory: audit/<n>_<prompt>.json and .safetensors, from which a search can be made again.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "cli/scene.h"

namespace greta::cli {

/// The model file that a scene's weights are in.
struct SceneModel {
  std::string path;  // relative to the run directory where it lies in it
  std::string hash;  // of its content, 16 hex digits
  int n_layers = 0;
  int n_heads = 0;
};

struct StoredScene {
  SceneRows scene;
  SceneModel model;
  std::filesystem::path source;  // its .json
};

/// Numbers, those that are not finite by name: "NaN", "Infinity", "-Infinity".
nlohmann::ordered_json numbers_json(std::span<const double> values);
/// Writes scene number `n` below `directory`.
void write_scene(const std::filesystem::path& directory, std::size_t n, const SceneRows& scene, const SceneModel& model);
/// All scenes of a run directory in the order of their numbers; none where it has no folder `audit`. Throws Error, one line,
/// for what is torn or says impossible things.
std::vector<StoredScene> read_scenes(const std::filesystem::path& run_directory);

}  // namespace greta::cli
