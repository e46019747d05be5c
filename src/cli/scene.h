// A guilty row and the rows about it: what a search for its cause looks through.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "audit/hypothesis.h"
#include "cli/aligned_run.h"
#include "cli/kept_rows.h"
#include "isolate/outcome.h"

namespace greta::cli {

/// What the search at one guilty row was made from: enough to make it again without an engine.
struct SceneRows {
  isolate::CausePlace at;
  bool reread = false;  // a KV slot that was right when it was written, and is not as a later step found it
  std::vector<std::int32_t> tokens;
  WholeRun rows;  // of the row's layer, of the one before and of the one after
};

/// What explains the guilty row, nearest first; nothing where the row is within its bound or lacks an operand, whose name then
/// is in `missing`.
std::vector<audit::Explained> explain_scene(const KeptRows& rows, const std::vector<std::int32_t>& tokens,
                                            const isolate::StageRow& row, bool reread, const Model& model,
                                            std::string& missing);
/// The state, name, parameters and candidates that such a search gives.
isolate::Cause cause_of(const std::vector<audit::Explained>& found);

}  // namespace greta::cli
