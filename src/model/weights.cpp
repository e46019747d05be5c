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
  ModelWeights weights = find_architecture(file).read_weights(tensors, config);
  tensors.refuse_leftovers();
  refuse_non_finite(file, tensors.taken());
  return weights;
}

}  // namespace greta
