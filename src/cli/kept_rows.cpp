#include "cli/kept_rows.h"

#include "ops/cpu/convert.h"

namespace greta::cli {

KeptRows::KeptRows(const Capture& capture, const FullTensors& tensors) {
  for (const StageRecord& record : capture.records)
    if (record.dtype) kinds_.emplace(Place{record.layer, record.stage}, Kind{*record.dtype, record.route});
  for (const auto& [place, tensor] : tensors) {
    auto& rows = rows_[place];
    for (const auto& [position, bytes] : tensor.rows) {
      std::vector<double>& row = rows[position];
      row.resize(bytes.size() / static_cast<std::size_t>(row_bytes(tensor.dtype, 1)));
      widen_row(tensor.dtype, bytes.data(), static_cast<std::int64_t>(row.size()), row.data());
    }
  }
}

std::span<const double> KeptRows::row(Stage stage, int layer, int position) const {
  const auto rows = rows_.find({layer, stage});
  if (rows == rows_.end()) return {};
  const auto row = rows->second.find(position);
  return row == rows->second.end() ? std::span<const double>() : row->second;
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
