// Data operands: the rows that an arm computed.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/stage.h"

namespace greta::audit {

/// Whole rows of one arm and prompt, by key.
class Rows {
 public:
  virtual ~Rows() = default;
  /// As float64, exactly; empty where it was not kept. Valid as long as this.
  virtual std::span<const double> row(Stage stage, int layer, int position) const = 0;
  /// As stored; nullopt where no row of the stage was kept.
  virtual std::optional<DType> dtype(Stage stage, int layer) const = 0;
  /// The route that computed them; empty: unknown.
  virtual std::string_view route(Stage stage, int layer) const = 0;
  /// Positions of the rows that were kept, ascending.
  virtual std::vector<int> positions(Stage stage, int layer) const = 0;

  bool has(Stage stage, int layer) const { return dtype(stage, layer).has_value(); }
};

}  // namespace greta::audit
