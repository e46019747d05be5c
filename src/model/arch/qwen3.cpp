// Architecture `qwen3` (Yang et al. 2025, arXiv:2505.09388, section 2; the dense models): Llama's, with an RMSNorm of every
// query and key head in place of Qwen2's biases, and RoPE on pairs (i, i + n/2).
#include "model/arch/architecture.h"
#include "model/config_reader.h"

namespace greta {
namespace {

ModelConfig read(const Gguf& file) {
  ModelConfig config = read_decoder_config(file, "qwen3");
  config.rope_interleaved = false;
  ConfigReader(file, "qwen3").refuse_window();
  return config;
}

}  // namespace

extern const Architecture kQwen3;
const Architecture kQwen3{"qwen3", read, {.qk_norm = true}, {.rope_theta = 1e6}};

}  // namespace greta
