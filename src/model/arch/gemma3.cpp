// Architecture `gemma3` (Gemma Team 2025, arXiv:2503.19786, section 2; the text model): Gemma 2's, with an RMSNorm of every
// query and key head in place of the caps, and five windowed layers before each one that sees all keys. Windowed layers turn by
// theta 10,000 and unscaled positions, the others by `rope.freq_base` and `rope.scaling.*`. Norm weights are stored with the 1
// of (1 + w) added.
#include <cmath>

#include "core/error.h"
#include "model/arch/architecture.h"
#include "model/config_reader.h"

namespace greta {
namespace {

constexpr int k27bLayers = 62;  // whose attention scale is 1/sqrt(d_model / n_heads) (5376/32 = 168)

ModelConfig read(const Gguf& file) {
  ModelConfig config = read_decoder_config(file, "gemma3");
  const ConfigReader in(file, "gemma3");
  config.rope_interleaved = false;
  config.embedding_scale = std::sqrt(static_cast<double>(config.d_model));
  config.activation = Activation::gelu_tanh;
  if (in.cap("attn_logit_softcapping") > 0) {
    fail("{}: '{}' is above 0: architecture 'gemma3' has no cap on scores", file.path().string(),
         in.key("attn_logit_softcapping"));
  }
  config.final_softcap = in.cap("final_logit_softcapping");
  config.window = in.required_window();
  config.window_period = 6;
  in.require_window_period(config.window_period);
  config.window_rope_theta = in.number("rope.freq_base_swa", 0.0, false).value_or(10000.0);
  if (!in.number("rope.freq_base", 0.0, false)) {
    fail("{}: key '{}' is missing: it is the theta of the layers without a window", file.path().string(),
         in.key("rope.freq_base"));
  }
  if (config.n_layers == k27bLayers)
    config.attention_scale = 1.0 / std::sqrt(static_cast<double>(config.d_model) / config.n_heads);
  return config;
}

}  // namespace

extern const Architecture kGemma3;
const Architecture kGemma3{"gemma3",
                           read,
                           {.qk_norm = true, .post_norms = true, .own_head = true},
                           {.window = 32, .rope_theta = 1e6, .rope_linear_scale = 8.0}};

}  // namespace greta
