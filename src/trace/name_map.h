// Stage names of other engines.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/stage.h"

namespace greta {

class NameMap {
 public:
  struct Match {
    Stage stage = Stage::x_in;
    std::optional<std::int32_t> layer;  // where the name holds it
  };

  /// `point` is an exact name ("l_out") or holds one "{layer}" that stands for decimal digits ("blk.{layer}.ffn_norm").
  /// Throws Error for an empty point, two "{layer}", an unknown stage (with the nearest known one) or a point given twice with
  /// different stages.
  void add(std::string_view point, std::string_view stage);
  /// Exact entries first, then patterns in the order of adding, then greta's own names.
  std::optional<Match> find(std::string_view point) const;
  bool empty() const { return entries_.empty(); }

 private:
  struct Entry {
    std::string point, before, after;  // before and after "{layer}" where it is a pattern
    bool pattern = false;
    Stage stage = Stage::x_in;
  };
  std::vector<Entry> entries_;
};

}  // namespace greta
