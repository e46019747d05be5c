// Local error: each arm held, op by op, to float64 results of what the op read (audit computes it, judge uses it).
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "core/stage.h"

namespace greta::isolate {

/// One row that no rounding explains.
struct LocalFinding {
  Stage stage = Stage::x_in;
  int layer = 0;
  int position = 0;
  int step = 0;      // forward call of its arm
  double ratio = 0;  // of an element's error, or of what a row's errors have in common, to its bound; infinite for a lone NaN
  std::string what;  // one English line: "element 17 is off by 3.2e-05, bound 1.1e-07"
};

/// What the judge of one arm and prompt found.
struct LocalJudgement {
  std::int64_t rows = 0;             // judged
  std::int64_t unjudged = 0;         // rows of which an operand was not kept, or that are NaN where NaN is due
  std::string first_unjudged;        // why
  double worst_ratio = 0;            // of the rows within their bounds
  std::string worst;                 // where: "attn_out layer 3 position 12"
  std::vector<LocalFinding> guilty;  // by step, layer, stage, position; at most kMostFindings
  std::int64_t guilty_rows = 0;
};
inline constexpr std::size_t kMostFindings = 64;

struct LocalPair {
  LocalJudgement a, b;
};

/// Judges both arms of the prompt; nothing where it cannot.
using LocalJudge = std::function<std::optional<LocalPair>(const std::string& prompt_id)>;

}  // namespace greta::isolate
