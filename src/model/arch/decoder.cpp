#include "model/arch/decoder.h"

#include <cmath>

#include "core/blocks.h"
#include "core/error.h"
#include "model/gguf.h"
#include "model/tensor_table.h"

namespace greta {
namespace {

/// Reads the tensors of one layer.
class LayerReader {
 public:
  LayerReader(TensorTable& tensors, const ModelConfig& config, const DecoderParts& parts, int layer)
      : tensors_(tensors), parts_(parts), layer_(layer), d_(config.d_model), hd_(config.head_dim) {
    q_ = std::int64_t{config.n_heads} * config.head_dim;
    kv_ = std::int64_t{config.n_kv_heads} * config.head_dim;
    ff_ = config.d_ff;
  }

  LayerWeights read() const {
    LayerWeights w;
    w.attn_norm = tensors_.vector(name("attn_norm.weight"), d_);
    w.wq = tensors_.matrix(name("attn_q.weight"), q_, d_);
    w.wk = tensors_.matrix(name("attn_k.weight"), kv_, d_);
    w.wv = tensors_.matrix(name("attn_v.weight"), kv_, d_);
    w.wo = tensors_.matrix(name("attn_output.weight"), d_, q_);
    w.ffn_norm = tensors_.vector(name("ffn_norm.weight"), d_);
    w.gate = tensors_.matrix(name("ffn_gate.weight"), ff_, d_);
    w.up = tensors_.matrix(name("ffn_up.weight"), ff_, d_);
    w.down = tensors_.matrix(name("ffn_down.weight"), d_, ff_);
    if (parts_.qkv_bias) {
      w.bq = tensors_.vector(name("attn_q.bias"), q_);
      w.bk = tensors_.vector(name("attn_k.bias"), kv_);
      w.bv = tensors_.vector(name("attn_v.bias"), kv_);
    }
    if (parts_.optional_biases) read_optional_biases(w);
    if (parts_.qk_norm) {
      w.q_norm = tensors_.vector(name("attn_q_norm.weight"), hd_);
      w.k_norm = tensors_.vector(name("attn_k_norm.weight"), hd_);
    }
    if (parts_.post_norms) {
      w.attn_post_norm = tensors_.vector(name("post_attention_norm.weight"), d_);
      w.ffn_post_norm = tensors_.vector(name("post_ffw_norm.weight"), d_);
    }
    return w;
  }

 private:
  std::string name(const char* part) const { return fmt::format("blk.{}.{}", layer_, part); }

  void read_optional_biases(LayerWeights& w) const {
    w.bq = tensors_.optional_vector(name("attn_q.bias"), q_);
    w.bk = tensors_.optional_vector(name("attn_k.bias"), kv_);
    w.bv = tensors_.optional_vector(name("attn_v.bias"), kv_);
    w.bo = tensors_.optional_vector(name("attn_output.bias"), d_);
    w.bgate = tensors_.optional_vector(name("ffn_gate.bias"), ff_);
    w.bup = tensors_.optional_vector(name("ffn_up.bias"), ff_);
    w.bdown = tensors_.optional_vector(name("ffn_down.bias"), d_);
  }

  TensorTable& tensors_;
  const DecoderParts& parts_;
  int layer_;
  std::int64_t d_, hd_, q_ = 0, kv_ = 0, ff_ = 0;
};

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

}  // namespace

ModelWeights read_decoder_weights(TensorTable& tensors, const ModelConfig& config, const DecoderParts& parts) {
  ModelWeights weights;
  weights.embedding = tensors.matrix("token_embd.weight", config.vocab_size, config.d_model);
  for (int layer = 0; layer < config.n_layers; ++layer) {
    weights.layers.push_back(LayerReader(tensors, config, parts, layer).read());
  }
  weights.final_norm = tensors.vector("output_norm.weight", config.d_model);
  if (parts.own_head) weights.lm_head = tensors.optional_matrix("output.weight", config.vocab_size, config.d_model);
  weights.tied_head = !weights.lm_head;
  if (weights.tied_head) weights.lm_head = weights.embedding;
  if (parts.rope_factors) {
    weights.rope_freq_factors = read_rope_factors(tensors, config);
  } else if (tensors.file().find_tensor("rope_freqs.weight") != nullptr) {
    fail("{}: tensor 'rope_freqs.weight' has no place in architecture '{}' as greta computes it",
         tensors.file().path().string(), config.architecture);
  }
  return weights;
}

}  // namespace greta
