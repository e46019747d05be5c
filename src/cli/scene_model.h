// The model files of stored scenes: found, opened once, and of the content that the run had.
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "cli/scene_files.h"
#include "model/gguf.h"

namespace greta::cli {

class SceneModels {
 public:
  /// `instead` is looked at in the place of every scene's own path; empty: none.
  SceneModels(std::filesystem::path run_directory, std::string instead)
      : directory_(std::move(run_directory)), instead_(std::move(instead)) {}

  /// The model file of the scene. Throws Error where it is not there, is another than the run's, or does not fit the scene.
  const Gguf& file(const StoredScene& stored);

 private:
  const Gguf& open(const SceneModel& model);

  std::filesystem::path directory_;
  std::string instead_;
  std::map<std::string, std::shared_ptr<const Gguf>> files_;  // by path
};

}  // namespace greta::cli
