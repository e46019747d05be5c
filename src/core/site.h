// Where in the run an op is called: what decorators (recording, faults) see beside the operands.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "core/stage.h"
#include "core/tensor.h"

namespace greta {

/// A label. Routes never see it: they see row counts.
enum class Phase : std::uint8_t { prefill, decode };
inline std::string_view name(Phase phase) { return phase == Phase::prefill ? "prefill" : "decode"; }

/// One forward call: `step` counts forward calls of the run from 0.
struct StepInfo {
  Phase phase = Phase::prefill;
  int step = 0;
  std::span<const RowId> rows;
};

/// The call of one op: the stage it produces, the layer, and the token of every row.
struct OpSite {
  Stage stage = Stage::x_in;
  int layer = 0;
  std::span<const RowId> rows;
};

}  // namespace greta
