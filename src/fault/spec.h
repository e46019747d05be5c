// What a planted fault is: KIND@(prefill|decode|any)[:layer=..][:stage=..][:position=..][:KEY=VALUE...], and the presets.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/site.h"
#include "core/stage.h"

namespace greta {

enum class FaultKind : std::uint8_t {
  stale_input,
  rmsnorm_epsilon,
  perturb,
  nan,
  weight_transposed,
  rope_position,
  kv_slot_shift,
};

/// One row of `greta faults`.
struct FaultInfo {
  FaultKind kind;
  std::string_view name;
  std::string_view doc;         // what is wrong
  std::string_view keys;        // its KEY=VALUEs with defaults
  std::string_view found_at;    // where it must be found
  std::string_view stands_for;  // the real bug
  std::span<const Stage> stages;  // where it can be planted
  bool stage_required;            // else an omitted stage means all of `stages`
};
std::span<const FaultInfo> fault_catalogue();
const FaultInfo& info(FaultKind kind);

struct FaultPreset {
  std::string_view name;
  std::string_view expansion;
  std::string_view doc;
};
std::span<const FaultPreset> fault_presets();

struct FaultSpec {
  FaultKind kind = FaultKind::perturb;
  std::optional<Phase> phase;             // nullopt: any
  std::optional<std::int32_t> layer;      // nullopt: all; -1: last
  std::optional<std::int32_t> position;   // nullopt: all; -1: last of the prompt
  std::optional<Stage> stage;             // nullopt: all of the kind's own
  std::optional<Stage> from;              // stale-input
  std::int32_t row = 0;                   // stale-input: position of the row served
  double eps = 1e-6;                      // rmsnorm-epsilon
  std::int32_t ulp = 1;                   // perturb, away from zero, of the stored type
  std::optional<double> rel;              // perturb: x * (1 + rel) instead of ulp
  std::optional<double> add;              // perturb: x + add instead of ulp
  std::int64_t index = 0;                 // perturb, nan: element of the row
  std::int32_t delta = 1;                 // rope-position, kv-slot-shift

  /// Whether it is to be planted at (phase, layer, stage); `n_layers` resolves -1. The layer does not count for once-a-token stages.
  bool matches(Phase at_phase, std::int32_t at_layer, Stage at_stage, std::int32_t n_layers) const;
  bool can_stand_at(Stage at_stage) const;
};

/// Presets expand. Throws Error: one line that names what is wrong, the known kinds, phases, stages or keys, and the nearest.
FaultSpec parse_fault(std::string_view text);
/// The canonical text of a fault: what parse_fault reads back.
std::string to_string(const FaultSpec& fault);

}  // namespace greta
