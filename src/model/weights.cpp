#include "model/weights.h"

#include "core/error.h"
#include "model/arch/architecture.h"
#include "model/finite.h"
#include "model/gguf.h"
#include "model/tensor_table.h"

namespace greta {

ModelWeights load_weights(const Gguf& file, const ModelConfig& config) {
  const std::string path = file.path().string();
  if (file.tensors().empty()) fail("{}: holds no tensors (a vocabulary only?), wanted a model with weights", path);
  TensorTable tensors(file);
  ModelWeights weights = read_decoder_weights(tensors, config, find_architecture(file).parts);
  tensors.refuse_leftovers();
  if (const auto bad = find_non_finite(tensors.taken())) {
    fail("{}: tensor '{}': {} {} is {}; the file is damaged or was converted wrongly", path, bad->tensor->name,
         bad->block_scale ? "the scale of the block from element" : "element", bad->element, bad->value);
  }
  return weights;
}

}  // namespace greta
