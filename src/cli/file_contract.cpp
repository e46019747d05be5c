#include "cli/file_contract.h"

#include "audit/dot_bound.h"
#include "core/blocks.h"
#include "model/gguf.h"

namespace greta::cli {
namespace {

const std::byte* row_data(const GgufTensor& tensor, std::int64_t row) {
  return tensor.data + row * row_bytes(*tensor.dtype, tensor.shape[0]);
}

/// Of Llama 3.1's files; empty where there are none.
std::vector<float> rope_factors(const Gguf& file, std::int64_t pairs) {
  constexpr std::string_view kName = "rope_freqs.weight";
  const FileTensors tensors(file);
  const auto shape = tensors.find(kName);
  if (!shape || shape->cols != pairs) return {};
  std::vector<double> factors(static_cast<std::size_t>(pairs));
  tensors.row(kName, 0, factors);
  return {factors.begin(), factors.end()};
}

}  // namespace

audit::ModelContract contract_of(const Gguf& file) {
  const ModelConfig c = read_config(file);
  audit::ModelContract out;
  out.n_layers = c.n_layers;
  out.d_model = c.d_model;
  out.n_heads = c.n_heads;
  out.n_kv_heads = c.n_kv_heads;
  out.head_dim = c.head_dim;
  out.d_ff = c.d_ff;
  out.vocab_size = c.vocab_size;
  out.rms_eps = c.rms_eps;
  out.rope_dim = c.rope_dim;
  out.rope_interleaved = c.rope_interleaved;
  out.rope_freq_factors = rope_factors(file, c.rope_dim / 2);
  out.embedding_scale = c.embedding_scale;
  out.attention_scale = c.attention_scale;
  out.attention_softcap = c.attention_softcap;
  out.final_softcap = c.final_softcap;
  out.activation = c.activation;
  for (int layer = 0; layer < c.n_layers; ++layer) {
    const LayerAttention own = c.layer_attention(layer);
    out.layers.push_back({own.rope_theta, own.rope_linear_scale, own.window});
  }
  return out;
}

std::optional<audit::TensorShape> FileTensors::find(std::string_view name) const {
  const GgufTensor* tensor = file_.find_tensor(name);
  if (tensor == nullptr || !tensor->dtype) return std::nullopt;
  return audit::TensorShape{tensor->shape.size() > 1 ? tensor->shape[1] : 1, tensor->shape[0], *tensor->dtype};
}

void FileTensors::row(std::string_view name, std::int64_t row, std::span<double> out) const {
  const GgufTensor& tensor = *file_.find_tensor(name);
  static thread_local std::vector<float> values;
  values.resize(out.size());
  dequantize_row(*tensor.dtype, row_data(tensor, row), static_cast<std::int64_t>(out.size()), values.data());
  std::copy(values.begin(), values.end(), out.begin());
}

void FileTensors::minima(std::string_view name, std::int64_t row, std::span<double> out) const {
  const GgufTensor& tensor = *file_.find_tensor(name);
  audit::block_minima(*tensor.dtype, row_data(tensor, row), tensor.shape[0], out);
}

}  // namespace greta::cli
