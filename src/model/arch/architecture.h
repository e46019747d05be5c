// The model architectures that greta knows: one file each, one row each in table.cpp.
#pragma once

#include <string>
#include <string_view>

#include "model/config.h"
#include "model/weights.h"

namespace greta {

class Gguf;
class TensorTable;

struct Architecture {
  std::string_view name;  // GGUF general.architecture
  ModelConfig (*read_config)(const Gguf& file);
  ModelWeights (*read_weights)(TensorTable& tensors, const ModelConfig& config);
};

extern const Architecture kLlama;

/// The architecture that the file names; throws Error for one that is not in the table, listing those that are.
const Architecture& find_architecture(const Gguf& file);

}  // namespace greta
