// Architecture `llama` (Touvron et al. 2023, arXiv:2302.13971, and its successors up to Llama 3): RMSNorm before each half of a
// layer, grouped-query attention with RoPE on pairs (2i, 2i+1), SwiGLU. Tensor names are GGUF's.
#include <cmath>
#include <utility>

#include "core/blocks.h"
#include "core/error.h"
#include "model/arch/architecture.h"
#include "model/config_reader.h"
#include "model/tensor_table.h"

namespace greta {
namespace {

ModelConfig read_llama_config(const Gguf& file) {
  ModelConfig config = read_decoder_config(file, kLlama.name);
  config.rope_interleaved = true;  // files hold Q and K permuted for it
  return config;
}

LayerWeights read_layer(TensorTable& tensors, const ModelConfig& config, int layer) {
  const std::int64_t d = config.d_model;
  const std::int64_t q = std::int64_t{config.n_heads} * config.head_dim;
  const std::int64_t kv = std::int64_t{config.n_kv_heads} * config.head_dim;
  const std::int64_t ff = config.d_ff;
  const auto name = [layer](const char* part) { return fmt::format("blk.{}.{}", layer, part); };
  LayerWeights w;
  w.attn_norm = tensors.vector(name("attn_norm.weight"), d);
  w.wq = tensors.matrix(name("attn_q.weight"), q, d);
  w.wk = tensors.matrix(name("attn_k.weight"), kv, d);
  w.wv = tensors.matrix(name("attn_v.weight"), kv, d);
  w.wo = tensors.matrix(name("attn_output.weight"), d, q);
  w.bq = tensors.optional_vector(name("attn_q.bias"), q);
  w.bk = tensors.optional_vector(name("attn_k.bias"), kv);
  w.bv = tensors.optional_vector(name("attn_v.bias"), kv);
  w.bo = tensors.optional_vector(name("attn_output.bias"), d);
  w.ffn_norm = tensors.vector(name("ffn_norm.weight"), d);
  w.gate = tensors.matrix(name("ffn_gate.weight"), ff, d);
  w.up = tensors.matrix(name("ffn_up.weight"), ff, d);
  w.down = tensors.matrix(name("ffn_down.weight"), d, ff);
  w.bgate = tensors.optional_vector(name("ffn_gate.bias"), ff);
  w.bup = tensors.optional_vector(name("ffn_up.bias"), ff);
  w.bdown = tensors.optional_vector(name("ffn_down.bias"), d);
  return w;
}

/// Llama-3.1's divisors of the RoPE frequencies, one a pair.
std::vector<float> read_rope_factors(TensorTable& tensors, const ModelConfig& config) {
  const WeightView view = tensors.optional_vector("rope_freqs.weight", config.rope_dim / 2);
  if (!view) return {};
  std::vector<float> factors(static_cast<std::size_t>(view.n_cols));
  dequantize_row(view.dtype, view.data, view.n_cols, factors.data());
  for (std::size_t i = 0; i < factors.size(); ++i) {
    if (!(factors[i] > 0.0f) || !std::isfinite(factors[i])) {
      fail("{}: tensor 'rope_freqs.weight': element {} is {}, wanted a finite number above 0", tensors.file().path().string(),
           i, factors[i]);
    }
  }
  return factors;
}

ModelWeights read_llama_weights(TensorTable& tensors, const ModelConfig& config) {
  ModelWeights weights;
  weights.embedding = tensors.matrix("token_embd.weight", config.vocab_size, config.d_model);
  for (int layer = 0; layer < config.n_layers; ++layer) weights.layers.push_back(read_layer(tensors, config, layer));
  weights.final_norm = tensors.vector("output_norm.weight", config.d_model);
  weights.lm_head = tensors.optional_matrix("output.weight", config.vocab_size, config.d_model);
  weights.tied_head = !weights.lm_head;
  if (weights.tied_head) weights.lm_head = weights.embedding;
  weights.rope_freq_factors = read_rope_factors(tensors, config);
  return weights;
}

}  // namespace

const Architecture kLlama{"llama", read_llama_config, read_llama_weights};

}  // namespace greta
