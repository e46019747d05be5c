// Architecture `gemma2` (Gemma Team 2024, arXiv:2408.00118, section 2): embeddings times sqrt(d_model), RMSNorm before and
// after each half of a layer, GeGLU, caps on attention scores and logits, a sliding window in every other layer, a tied head.
// Norm weights are stored with the 1 of (1 + w) added.
#include <cmath>

#include "model/arch/architecture.h"
#include "model/config_reader.h"

namespace greta {
namespace {

constexpr int k27bLayers = 46;  // whose attention scale is 1/sqrt(d_model / n_heads) (the paper's 4608/32 = 144)

ModelConfig read(const Gguf& file) {
  ModelConfig config = read_decoder_config(file, "gemma2");
  const ConfigReader in(file, "gemma2");
  config.rope_interleaved = false;
  config.embedding_scale = std::sqrt(static_cast<double>(config.d_model));
  config.activation = Activation::gelu_tanh;
  config.attention_softcap = in.required_cap("attn_logit_softcapping");
  config.final_softcap = in.required_cap("final_logit_softcapping");
  config.window = in.required_window();
  config.window_period = 2;  // layers 0, 2, 4, ... are windowed
  in.require_window_period(config.window_period);
  if (config.n_layers == k27bLayers)
    config.attention_scale = 1.0 / std::sqrt(static_cast<double>(config.d_model) / config.n_heads);
  return config;
}

}  // namespace

extern const Architecture kGemma2;
const Architecture kGemma2{
    "gemma2", read, {.post_norms = true, .own_head = false}, {.window = 32, .attention_softcap = 50.0, .final_softcap = 30.0}};

}  // namespace greta
