#include "cli/file_contract.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "audit/dot_bound.h"
#include "core/blocks.h"
#include "core/half.h"
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

const std::byte* block_data(const GgufTensor& tensor, std::int64_t row, std::int64_t block) {
  return row_data(tensor, row) + block * dtype_info(*tensor.dtype).block_bytes;
}

double half_at(const std::byte* bytes) {
  std::uint16_t half = 0;
  std::memcpy(&half, bytes, sizeof half);
  return static_cast<double>(f16_to_f32(half));
}

void put_half(std::byte* bytes, double value) {
  const std::uint16_t half = f32_to_f16(static_cast<float>(value));
  std::memcpy(bytes, &half, sizeof half);
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

std::int64_t FileTensors::block_elements(std::string_view name) const {
  const GgufTensor& tensor = *file_.find_tensor(name);
  return scale_offsets(*tensor.dtype).empty() ? 0 : dtype_info(*tensor.dtype).block_elems;
}

audit::BlockScale FileTensors::block_scale(std::string_view name, std::int64_t row, std::int64_t block) const {
  const GgufTensor& tensor = *file_.find_tensor(name);
  const auto offsets = scale_offsets(*tensor.dtype);
  const std::byte* bytes = block_data(tensor, row, block);
  audit::BlockScale out{half_at(bytes + offsets[0]), {}};
  if (offsets.size() > 1) out.minimum = half_at(bytes + offsets[1]);
  return out;
}

void FileTensors::scaled_block(std::string_view name, std::int64_t row, std::int64_t block, const audit::BlockScale& scale,
                               std::span<double> out) const {
  const GgufTensor& tensor = *file_.find_tensor(name);
  const auto offsets = scale_offsets(*tensor.dtype);
  const std::byte* own = block_data(tensor, row, block);
  alignas(4) std::array<std::byte, 256> bytes{};  // of the largest block
  std::copy_n(own, dtype_info(*tensor.dtype).block_bytes, bytes.begin());
  put_half(bytes.data() + offsets[0], scale.scale);
  if (offsets.size() > 1 && scale.minimum) put_half(bytes.data() + offsets[1], *scale.minimum);
  std::array<float, kSuperBlock> values{};
  dequantize_row(*tensor.dtype, bytes.data(), static_cast<std::int64_t>(out.size()), values.data());
  std::copy_n(values.begin(), out.size(), out.begin());
}

}  // namespace greta::cli
