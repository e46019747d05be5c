// Hyperparameters of a model, read from GGUF metadata and checked.
#pragma once

#include <cstdint>
#include <string>

#include "core/activation.h"

namespace greta {

class Gguf;

/// What attention needs to know of a layer.
struct LayerAttention {
  int window = 0;  // last keys that a row sees, itself included; 0: all
  double rope_theta = 10000.0;
  double rope_linear_scale = 1.0;
};

struct ModelConfig {
  std::string architecture;  // GGUF general.architecture
  std::string name;
  int n_layers = 0;
  int d_model = 0;
  int n_heads = 0;
  int n_kv_heads = 0;
  int head_dim = 0;
  int d_ff = 0;
  int vocab_size = 0;
  int context_length = 0;
  double rms_eps = 1e-5;
  double rope_theta = 10000.0;
  int rope_dim = 0;
  double rope_linear_scale = 1.0;
  bool rope_interleaved = true;
  double embedding_scale = 1.0;  // factor of the embedding's rows
  double attention_scale = 0.0;  // factor of q.k
  double attention_softcap = 0.0, final_softcap = 0.0;  // 0: none
  Activation activation = Activation::silu;
  int window = 0;         // of windowed layers; 0: the model has none
  int window_period = 1;  // the last layer of every so many sees all keys; 1: every layer is windowed
  double window_rope_theta = 0.0;  // of windowed layers, which then do not scale positions; 0: as all others

  LayerAttention layer_attention(int layer) const;
};

/// By the architecture that the file names. Throws Error, one line: an unknown architecture (with the known ones), a missing or
/// impossible value (file, key, value, what was wanted), or a feature that would be computed wrongly.
ModelConfig read_config(const Gguf& file);

}  // namespace greta
