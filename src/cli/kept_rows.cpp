#include "cli/kept_rows.h"

#include <algorithm>

#include "ops/cpu/convert.h"

namespace greta::cli {
namespace {

/// Bytes of kept rows, as stored and as float64, that one group of layers may take. Every group costs the arm another pass.
constexpr double kGroupBytes = 1.2e9;

}  // namespace

std::vector<std::vector<std::int32_t>> layer_groups(const ModelConfig& config, std::int64_t positions) {
  const double widths = 9.0 * config.d_model + 4.0 * config.n_heads * config.head_dim +
                        5.0 * config.n_kv_heads * config.head_dim + 3.0 * config.d_ff +
                        2.0 * config.n_heads * static_cast<double>(positions);
  const double layer_bytes = widths * static_cast<double>(positions) * (sizeof(float) + sizeof(double));
  const auto size = std::max(1, static_cast<int>(std::min(kGroupBytes / layer_bytes, 1e6)));
  std::vector<std::vector<std::int32_t>> groups;
  for (int layer = 0; layer < config.n_layers; ++layer) {
    if (layer % size == 0) groups.emplace_back();
    groups.back().push_back(layer);
  }
  return groups;
}

std::vector<audit::Place> places_of(int layer, int n_layers) {
  std::vector<audit::Place> places;
  for (const Stage stage : all_stages())
    if (once_per_token(stage) == (layer == n_layers)) places.push_back({stage, layer});
  return places;
}

KeptRows::KeptRows(const Capture& capture, const FullTensors& tensors) {
  for (const StageRecord& record : capture.records)
    if (record.dtype) kinds_.emplace(Place{record.layer, record.stage}, Kind{*record.dtype, record.route});
  for (const auto& [place, tensor] : tensors) {
    for (const auto& [from, to] : {std::pair(&tensor.rows, &rows_[place]), std::pair(&tensor.rereads, &rereads_[place])}) {
      for (const auto& [position, bytes] : *from) {
        std::vector<double>& row = (*to)[position];
        row.resize(bytes.size() / static_cast<std::size_t>(row_bytes(tensor.dtype, 1)));
        widen_row(tensor.dtype, bytes.data(), static_cast<std::int64_t>(row.size()), row.data());
      }
    }
  }
}

std::span<const double> KeptRows::at(const Table& table, Place place, int position) {
  const auto rows = table.find(place);
  if (rows == table.end()) return {};
  const auto row = rows->second.find(position);
  return row == rows->second.end() ? std::span<const double>() : row->second;
}

std::span<const double> KeptRows::row(Stage stage, int layer, int position) const {
  return at(rows_, {layer, stage}, position);
}

std::span<const double> KeptRows::reread(Stage stage, int layer, int position) const {
  return at(rereads_, {layer, stage}, position);
}

std::optional<DType> KeptRows::dtype(Stage stage, int layer) const {
  const auto found = kinds_.find({layer, stage});
  return found == kinds_.end() ? std::nullopt : std::optional(found->second.dtype);
}

std::string_view KeptRows::route(Stage stage, int layer) const {
  const auto found = kinds_.find({layer, stage});
  return found == kinds_.end() ? std::string_view() : found->second.route;
}

std::vector<int> KeptRows::positions(Stage stage, int layer) const {
  std::vector<int> out;
  if (const auto rows = rows_.find({layer, stage}); rows != rows_.end())
    for (const auto& [position, row] : rows->second) out.push_back(position);
  return out;
}

}  // namespace greta::cli
