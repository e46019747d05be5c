// Hyperparameters of a model, read from GGUF metadata and checked.
#pragma once

#include <cstdint>
#include <string>

namespace greta {

class Gguf;

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
};

/// By the architecture that the file names. Throws Error, one line: an unknown architecture (with the known ones), a missing or
/// impossible value (file, key, value, what was wanted), or a feature that would be computed wrongly.
ModelConfig read_config(const Gguf& file);

}  // namespace greta
