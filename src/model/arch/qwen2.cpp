// Architecture `qwen2` (Yang et al. 2024, arXiv:2407.10671, section 2.2; Qwen2 and Qwen2.5): Llama's, with biases on Q, K and V
// and RoPE on pairs (i, i + n/2).
#include "model/arch/architecture.h"
#include "model/config_reader.h"

namespace greta {
namespace {

ModelConfig read(const Gguf& file) {
  ModelConfig config = read_decoder_config(file, "qwen2");
  config.rope_interleaved = false;
  ConfigReader(file, "qwen2").refuse_window();
  return config;
}

}  // namespace

extern const Architecture kQwen2;
const Architecture kQwen2{"qwen2", read, {.qkv_bias = true}, {.rope_theta = 1e6}};

}  // namespace greta
