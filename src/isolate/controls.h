// Controls: a comparison is believed only after it has found an error planted where it must be found.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/stage.h"
#include "trace/record.h"

namespace greta::isolate {

/// One planted perturbation of arm B's decode step. Exactly one of `ulps` and `delta` is set.
struct ControlSpec {
  std::string prompt_id;
  Stage stage = Stage::x_in;
  int layer = 0;                // the number of layers for stages that exist once a token
  int position = 0;             // of the decode step to run again, n-1 .. n+span-2; for k_cache and v_cache also the slot
  std::int64_t index = 0;       // element of the row
  std::optional<int> ulps;      // of the stored type, away from zero (bit-equality is claimed)
  std::optional<double> delta;  // added to the element: 4 times its bound, or the stage's threshold on the row's RMS
  /// "1 ulp", "+3.2e-05".
  std::string magnitude() const;
};

struct ControlResult {
  ControlSpec spec;
  bool in_memory = false;  // one record was altered, not the run: analyze and compare, which have no engine
  bool found = false;      // the first mismatch lies at spec's stage, layer and position
  std::string met;         // against what: "a", or "b" where the arms differ already; "bound": by local error
  std::string where;       // the first mismatch or guilty row found: "ffn_norm layer 3 position 4", or "nothing"
};

/// Runs arm B's decode step at spec.position again from its KV snapshot (the slots of positions < spec.position as arm B left
/// them), with the arm's own decorators and their state, and the perturbation planted through the ops. Returns the capture of
/// that step: records of that position and of the slots that it reread. Throws Error where it cannot; specs come sorted by
/// prompt.
using ControlRunner = std::function<Capture(const ControlSpec&)>;

}  // namespace greta::isolate
