// The weights of a Llama-family model, as views into the mapped file.
#pragma once

#include <vector>

#include "core/tensor.h"

namespace greta {

class Gguf;
struct ModelConfig;

/// Empty views (operator bool false) stand for tensors that the model does not have.
struct LayerWeights {
  WeightView attn_norm;          // [d_model]
  WeightView wq, wk, wv, wo;     // [n_heads*head_dim, d_model], [n_kv_heads*head_dim, d_model] x2, [d_model, n_heads*head_dim]
  WeightView bq, bk, bv, bo;     // biases
  WeightView q_norm, k_norm;     // [head_dim], of every head
  WeightView attn_post_norm;     // [d_model], of wo_out
  WeightView ffn_norm;           // [d_model]
  WeightView gate, up, down;     // [d_ff, d_model] x2, [d_model, d_ff]
  WeightView bgate, bup, bdown;  // biases
  WeightView ffn_post_norm;      // [d_model], of mlp_out
};

struct ModelWeights {
  WeightView embedding;  // [vocab, d_model]
  std::vector<LayerWeights> layers;
  WeightView final_norm;  // [d_model]
  WeightView lm_head;     // [vocab, d_model]; the embedding where the head is tied
  bool tied_head = false;
  std::vector<float> rope_freq_factors;  // rope_dim/2 entries, or empty
};

/// The views of all tensors, one after the other; those that the model does not have are empty.
std::vector<WeightView> all_weights(const ModelWeights& weights);

/// Views of every tensor of the model; valid as long as `file`. Throws Error, one line with file and tensor: missing, of
/// another shape, of a type that greta does not compute with (with the ones that it does), of no place in the architecture, or
/// with a NaN or an infinity (with its element).
ModelWeights load_weights(const Gguf& file, const ModelConfig& config);

}  // namespace greta
