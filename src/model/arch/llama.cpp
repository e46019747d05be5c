// Architecture `llama` (Touvron et al. 2023, arXiv:2302.13971, and its successors up to Llama 3): RMSNorm before each half of a
// layer, grouped-query attention with RoPE on pairs (2i, 2i+1), SwiGLU. Mistral's files (Jiang et al. 2023, arXiv:2310.06825)
// are of this architecture too, with `llama.attention.sliding_window` where every layer has a window.
#include "model/arch/architecture.h"
#include "model/config_reader.h"

namespace greta {
namespace {

ModelConfig read(const Gguf& file) {
  ModelConfig config = read_decoder_config(file, "llama");
  const ConfigReader in(file, "llama");
  config.rope_interleaved = true;  // files hold Q and K permuted for it
  config.window = in.window_or_none();
  return config;
}

}  // namespace

extern const Architecture kLlama;
const Architecture kLlama{"llama", read, {.optional_biases = true, .rope_factors = true}, {}};

}  // namespace greta
