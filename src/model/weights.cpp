#include "model/weights.h"

#include "core/error.h"
#include "model/arch/architecture.h"
#include "model/finite.h"
#include "model/gguf.h"
#include "model/tensor_table.h"

namespace greta {

std::vector<WeightView> all_weights(const ModelWeights& weights) {
  std::vector<WeightView> all{weights.embedding, weights.final_norm, weights.lm_head};
  for (const LayerWeights& w : weights.layers)
    all.insert(all.end(),
               {w.attn_norm,      w.wq,       w.wk,   w.wv, w.wo,   w.bq,    w.bk,  w.bv,    w.bo,           w.q_norm, w.k_norm,
                w.attn_post_norm, w.ffn_norm, w.gate, w.up, w.down, w.bgate, w.bup, w.bdown, w.ffn_post_norm});
  return all;
}

ModelWeights load_weights(const Gguf& file, const ModelConfig& config) {
  const std::string path = file.path().string();
  if (file.tensors().empty()) fail("{}: holds no tensors (a vocabulary only?), wanted a model with weights", path);
  TensorTable tensors(file);
  ModelWeights weights = read_decoder_weights(tensors, config, find_architecture(file).parts);
  tensors.refuse_leftovers();
  refuse_non_finite(file, tensors.taken());
  return weights;
}

}  // namespace greta
