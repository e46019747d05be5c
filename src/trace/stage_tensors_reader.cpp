// Stages kept whole, read back.
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "core/error.h"
#include "core/quote.h"
#include "trace/safetensors.h"

namespace greta {
namespace {

bool is_ragged(Stage stage) { return stage == Stage::attn_scores || stage == Stage::attn_probs; }

DType dtype_of(TensorType type, const std::string& what) {
  switch (type) {
    case TensorType::f64:
      return DType::f64;
    case TensorType::f32:
      return DType::f32;
    case TensorType::f16:
      return DType::f16;
    case TensorType::bf16:
      return DType::bf16;
    default:
      fail("{}: of type {}, wanted floating-point numbers", what, name(type));
  }
}

/// "3.ffn_norm", or "logits" of layer `n_layers`.
std::pair<std::int32_t, Stage> place_of(const std::string& tensor, std::int32_t n_layers, const std::string& what) {
  const std::size_t dot = tensor.find('.');
  const auto stage = stage_from_name(dot == std::string::npos ? tensor : tensor.substr(dot + 1));
  std::int32_t layer = n_layers;
  if (dot != std::string::npos) {
    const auto [end, error] = std::from_chars(tensor.data(), tensor.data() + dot, layer);
    if (error != std::errc() || end != tensor.data() + dot || layer < 0 || layer >= n_layers)
      fail("{}: its layer is not one of 0..{}", what, n_layers - 1);
  }
  if (!stage || once_per_token(*stage) != (dot == std::string::npos)) fail("{}: no stage has this name", what);
  return {layer, *stage};
}

std::vector<std::int32_t> positions_of(const SafetensorsFile& file, const TensorEntry& tensor, std::int64_t n_rows,
                                       const std::string& what) {
  std::vector<std::int32_t> out;
  const TensorEntry* entry = file.find(tensor.name + ".positions");
  if (entry == nullptr) {
    for (std::int64_t r = 0; r < n_rows; ++r) out.push_back(static_cast<std::int32_t>(r));
    return out;
  }
  constexpr double kMost = 1 << 30;
  for (const double position : file.read_f64(*entry)) {
    if (!(position >= 0) || position > kMost || (!out.empty() && position <= out.back()))
      fail("{}: its positions do not ascend from 0", what);
    out.push_back(static_cast<std::int32_t>(position));
  }
  if (static_cast<std::int64_t>(out.size()) != n_rows) fail("{}: {} rows and {} positions", what, n_rows, out.size());
  return out;
}

}  // namespace

std::vector<StoredStage> read_stage_tensors(const std::filesystem::path& path, std::int32_t n_layers) {
  const SafetensorsFile file(path);
  std::vector<StoredStage> out;
  for (const TensorEntry& tensor : file.tensors()) {
    if (tensor.name == "tokens" || tensor.name.ends_with(".positions")) continue;
    const std::string what = fmt::format("{}: tensor {}", path.string(), quote(tensor.name));
    StoredStage stage;
    std::tie(stage.layer, stage.stage) = place_of(tensor.name, n_layers, what);
    stage.dtype = dtype_of(tensor.type, what);
    const bool ragged = is_ragged(stage.stage);
    if (tensor.shape.size() != (ragged ? 3u : 2u))
      fail("{}: {} dimensions, wanted {}", what, tensor.shape.size(), ragged ? 3 : 2);
    if (std::find(tensor.shape.begin(), tensor.shape.end(), 0) != tensor.shape.end())
      fail("{}: shape [{}] holds no element", what, fmt::join(tensor.shape, ", "));
    const std::vector<std::int32_t> positions = positions_of(file, tensor, tensor.shape[0], what);
    const std::vector<std::byte> bytes = file.read(tensor);
    const auto element = static_cast<std::size_t>(size_of(tensor.type));
    const std::size_t heads = ragged ? static_cast<std::size_t>(tensor.shape[1]) : 1;
    const auto width = static_cast<std::size_t>(tensor.shape.back());
    for (std::size_t r = 0; r < positions.size(); ++r) {
      const std::size_t seen = ragged ? static_cast<std::size_t>(positions[r]) + 1 : width;
      if (seen > width) fail("{}: {} keys for position {}", what, width, positions[r]);
      std::vector<std::byte>& row = stage.rows[positions[r]];
      for (std::size_t h = 0; h < heads; ++h) {
        const auto from = bytes.begin() + static_cast<std::ptrdiff_t>((r * heads + h) * width * element);
        row.insert(row.end(), from, from + static_cast<std::ptrdiff_t>(seen * element));
      }
    }
    out.push_back(std::move(stage));
  }
  return out;
}

}  // namespace greta
