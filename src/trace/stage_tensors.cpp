// Stages kept whole, as tensors of one file: `<layer>.<stage>`.
#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "core/error.h"
#include "core/half.h"
#include "trace/safetensors.h"

namespace greta {
namespace {

bool is_ragged(Stage stage) { return stage == Stage::attn_scores || stage == Stage::attn_probs; }

std::string tensor_name(const StageTensor& tensor) {
  if (once_per_token(tensor.stage)) return std::string(name(tensor.stage));
  return fmt::format("{}.{}", tensor.layer, name(tensor.stage));
}

bool from_zero(const std::vector<std::int32_t>& positions) {
  for (std::size_t i = 0; i < positions.size(); ++i)
    if (positions[i] != static_cast<std::int32_t>(i)) return false;
  return true;
}

/// What stands for a key that a row does not see: probability 0, score -infinity.
std::vector<std::byte> padding(Stage stage, DType dtype, std::size_t elements) {
  const double value = stage == Stage::attn_scores ? -std::numeric_limits<double>::infinity() : 0.0;
  std::vector<std::byte> out(elements * static_cast<std::size_t>(row_bytes(dtype, 1)));
  for (std::size_t i = 0; i < elements; ++i) {
    const auto put = [&](auto bits) { std::memcpy(out.data() + i * sizeof(bits), &bits, sizeof(bits)); };
    const auto single = static_cast<float>(value);
    if (dtype == DType::f64) put(value);
    if (dtype == DType::f32) put(single);
    if (dtype == DType::f16) put(f32_to_f16(single));
    if (dtype == DType::bf16) put(f32_to_bf16(single));
  }
  return out;
}

TensorSpec spec_of(const StageTensor& tensor, std::int64_t n_heads) {
  TensorSpec spec{tensor_name(tensor), tensor_type(tensor.dtype), {}};
  if (tensor.rows.empty() || tensor.rows.size() != tensor.positions.size() ||
      !std::is_sorted(tensor.positions.begin(), tensor.positions.end()))
    fail("full tensors: {} has {} rows for {} positions (wanted: one each, positions ascending)", spec.name, tensor.rows.size(),
         tensor.positions.size());
  const auto n_rows = static_cast<std::int64_t>(tensor.rows.size());
  const std::int64_t element = size_of(spec.type);
  const auto dim = static_cast<std::int64_t>(tensor.rows.front().size()) / element;
  for (std::size_t r = 0; r < tensor.rows.size(); ++r) {
    const std::int64_t wanted = is_ragged(tensor.stage) ? n_heads * (tensor.positions[r] + std::int64_t{1}) : dim;
    if (static_cast<std::int64_t>(tensor.rows[r].size()) != wanted * element)
      fail("full tensors: row of {} at position {} has {} bytes, wanted {}", spec.name, tensor.positions[r],
           tensor.rows[r].size(), wanted * element);
  }
  if (is_ragged(tensor.stage)) {
    spec.shape = {n_rows, n_heads, tensor.positions.back() + std::int64_t{1}};
  } else {
    spec.shape = {n_rows, dim};
  }
  return spec;
}

void append_rows(SafetensorsWriter& writer, const StageTensor& tensor, std::int64_t n_heads) {
  const std::int64_t keys = tensor.positions.back() + std::int64_t{1};
  const auto element = static_cast<std::size_t>(row_bytes(tensor.dtype, 1));
  const std::vector<std::byte> pad =
      is_ragged(tensor.stage) ? padding(tensor.stage, tensor.dtype, static_cast<std::size_t>(keys)) : std::vector<std::byte>{};
  for (std::size_t r = 0; r < tensor.rows.size(); ++r) {
    if (!is_ragged(tensor.stage)) {
      writer.append(tensor.rows[r]);
      continue;
    }
    const std::size_t seen = (static_cast<std::size_t>(tensor.positions[r]) + 1) * element;
    for (std::size_t h = 0; h < static_cast<std::size_t>(n_heads); ++h) {
      writer.append(tensor.rows[r].subspan(h * seen, seen));
      writer.append(std::span(pad).subspan(seen));
    }
  }
}

}  // namespace

void write_stage_tensors(const std::filesystem::path& path, std::span<const StageTensor> tensors, std::int64_t n_heads,
                         std::span<const std::int32_t> tokens) {
  std::vector<TensorSpec> specs;
  for (const StageTensor& tensor : tensors) specs.push_back(spec_of(tensor, n_heads));
  std::vector<std::vector<std::int64_t>> integers;
  for (const StageTensor& tensor : tensors) {
    if (from_zero(tensor.positions)) continue;
    integers.emplace_back(tensor.positions.begin(), tensor.positions.end());
    specs.push_back(
        {tensor_name(tensor) + ".positions", TensorType::i64, {static_cast<std::int64_t>(tensor.positions.size())}});
  }
  if (!tokens.empty()) {
    integers.emplace_back(tokens.begin(), tokens.end());
    specs.push_back({"tokens", TensorType::i64, {static_cast<std::int64_t>(tokens.size())}});
  }
  SafetensorsWriter writer(path, std::move(specs));
  for (const StageTensor& tensor : tensors) append_rows(writer, tensor, n_heads);
  for (const std::vector<std::int64_t>& column : integers) writer.append(std::as_bytes(std::span(column)));
  writer.finish();
}

}  // namespace greta
