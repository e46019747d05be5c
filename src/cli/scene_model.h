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

  /// Throws Error where the file is not there, or is another than the run's.
  const Gguf& file(const SceneModel& model);

 private:
  std::filesystem::path directory_;
  std::string instead_;
  std::map<std::string, std::shared_ptr<const Gguf>> files_;  // by path
};

}  // namespace greta::cli
