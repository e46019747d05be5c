// The models that the scorecard plants faults in: the demo model, and random-weight ones of every architecture and weight type.
#pragma once

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "model/model.h"

namespace greta::cli {

struct ScoredModel {
  std::string name;  // "demo", "tiny q4_k", "gemma2"
  std::string type;  // of its matrices
  std::shared_ptr<const Model> model;
  std::vector<std::int32_t> prompt;
  bool blocks = false;  // matrices are of blocks: plan q8 applies
};

/// Made on demand in a directory of its own, which goes with it.
class ScoredModels {
 public:
  ScoredModels();
  ~ScoredModels();
  ScoredModels(const ScoredModels&) = delete;
  ScoredModels& operator=(const ScoredModels&) = delete;

  /// The demo model.
  const ScoredModel& demo();
  /// Three llama layers of random weights of this type: "f32", "q4_k".
  const ScoredModel& tiny(const std::string& type);
  /// What a plant's `model` asks for (fault/plants.h); not "base".
  const ScoredModel& with(const std::string& need);

 private:
  const ScoredModel& made(const std::string& name, const std::string& type, const std::string& architecture);

  std::filesystem::path directory_;
  std::map<std::string, ScoredModel> models_;
};

}  // namespace greta::cli
