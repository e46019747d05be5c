// A loaded model: file, configuration, weights, tokenizer.
#pragma once

#include <filesystem>
#include <memory>

#include "model/config.h"
#include "model/gguf.h"
#include "model/tokenizer.h"
#include "model/weights.h"

namespace greta {

struct Model {
  std::shared_ptr<const Gguf> file;
  ModelConfig config;
  ModelWeights weights;
  std::unique_ptr<const Tokenizer> tokenizer;

  /// Opens and checks a model: architecture known, every tensor present with its shape and a computable type, heads divide, no
  /// NaN in the weights (named: tensor and index). Throws Error, one line.
  static std::shared_ptr<const Model> load(const std::filesystem::path& path);
};

}  // namespace greta
