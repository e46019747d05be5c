// Rows that a run kept whole, as audit reads them.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "audit/op_graph.h"
#include "audit/rows.h"
#include "model/config.h"
#include "recording/recorder.h"

namespace greta::cli {

/// Groups of consecutive layers whose rows, kept whole as stored and as float64, take 1.2 GB at most; one layer at least.
std::vector<std::vector<std::int32_t>> layer_groups(const ModelConfig& config, std::int64_t positions);

/// The stages of a layer, or with layer = n_layers those that exist once a token.
std::vector<audit::Place> places_of(int layer, int n_layers);

/// Rows of one run as float64.
class KeptRows final : public audit::Rows {
 public:
  KeptRows(const Capture& capture, const FullTensors& tensors);

  std::span<const double> row(Stage stage, int layer, int position) const override;
  std::optional<DType> dtype(Stage stage, int layer) const override;
  std::string_view route(Stage stage, int layer) const override;
  std::vector<int> positions(Stage stage, int layer) const override;
  /// A KV slot as the first later step that found it changed found it; empty: none did.
  std::span<const double> reread(Stage stage, int layer, int position) const;

 private:
  struct Kind {
    DType dtype;
    std::string route;
  };
  using Place = std::pair<std::int32_t, Stage>;
  using Table = std::map<Place, std::map<int, std::vector<double>>>;
  static std::span<const double> at(const Table& table, Place place, int position);

  Table rows_, rereads_;
  std::map<Place, Kind> kinds_;
};

}  // namespace greta::cli
