#include "isolate/outcome.h"

#include <algorithm>
#include <array>

namespace greta::isolate {

std::string_view name(Source source) {
  constexpr std::array<std::string_view, 3> kNames = {"isolate", "analyze", "compare"};
  return kNames[static_cast<std::size_t>(source)];
}

std::string_view name(CauseState state) {
  constexpr std::array<std::string_view, 5> kNames = {"none", "unexplained", "ranked", "named", "withdrawn"};
  return kNames[static_cast<std::size_t>(state)];
}

std::optional<double> TableRow::mae_of(Stage stage) const {
  for (const auto& [column, value] : mae)
    if (column == stage) return value;
  return std::nullopt;
}

KeyCounts& KeyCounts::operator+=(const KeyCounts& other) {
  expected += other.expected;
  compared += other.compared;
  bit_equal += other.bit_equal;
  unhashed += other.unhashed;
  drifted += other.drifted;
  above += other.above;
  return *this;
}

int Outcome::controls_found() const {
  return static_cast<int>(std::count_if(controls.begin(), controls.end(), [](const ControlResult& c) { return c.found; }));
}

std::string Cause::text() const {
  std::string out = name;
  for (const auto& [key, value] : params) out += " " + key + "=" + value;
  return out;
}

}  // namespace greta::isolate
