// What a planted fault is: KIND@(prefill|decode|any)[:layer=..][:stage=..][:position=..][:KEY=VALUE...].
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "core/site.h"
#include "core/stage.h"

namespace greta {

struct FaultInfo;

/// The value of one key: nothing where it was not given and has no fallback.
using FaultValue = std::variant<std::monostate, std::int64_t, double, Stage, std::string>;

struct FaultSpec {
  const FaultInfo* kind = nullptr;       // a row of the catalogue
  std::optional<Phase> phase;            // nullopt: any
  std::optional<std::int32_t> layer;     // nullopt: all; -1: last
  std::optional<std::int32_t> position;  // nullopt: all; -1: last of the prompt
  std::optional<Stage> stage;            // nullopt: all of the kind's own
  std::vector<FaultValue> values;        // one a key of the kind, in the catalogue's order
  std::vector<bool> given;               // whether the text said it; else the fallback stands

  /// Whether it is to be planted at (phase, layer, stage); `n_layers` resolves -1. The layer does not count for once-a-token
  /// stages.
  bool matches(Phase at_phase, std::int32_t at_layer, Stage at_stage, std::int32_t n_layers) const;
  bool can_stand_at(Stage at_stage) const;
  /// The layer counts, the phase and the position do not.
  bool matches_layer(std::int32_t at_layer, Stage at_stage, std::int32_t n_layers) const;

  /// Values by key; a key that the kind does not have, or another type, is an internal error.
  bool has(std::string_view key) const;
  std::int64_t integer(std::string_view key) const;
  double real(std::string_view key) const;
  Stage stage_value(std::string_view key) const;
  /// The word, or empty where the value is a number.
  std::string_view word(std::string_view key) const;

 private:
  const FaultValue& value(std::string_view key) const;
};

/// Presets expand. Throws Error: one line that names what is wrong, the known kinds, phases, stages or keys, and the nearest.
FaultSpec parse_fault(std::string_view text);
/// What parse_fault reads back: selectors and the keys that were given.
std::string to_string(const FaultSpec& fault);

}  // namespace greta
