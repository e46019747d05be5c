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

/// What the search at one guilty row is made from: all that it takes to make it again without an engine.
struct SceneRows {
  isolate::CausePlace at;
  bool reread = false;  // a KV slot that was right when it was written, and is not as a later step found it
  bool other = false;   // of a mismatch that the prompt's headline does not explain
  std::vector<std::int32_t> tokens;
  WholeRun rows;                       // of the row's layer and of its neighbours
  isolate::Substitution substitution;  // of a headline: what became of its arm with right values
};

/// What explains the guilty row; `unexplained` where it is within its bound or lacks an operand, whose name then is in
/// `missing`.
isolate::Cause search_scene(const SceneRows& scene, const Gguf& file, std::string& missing);

/// A search and what it gave.
struct SearchedScene {
  SceneRows scene;
  isolate::Cause cause;
};
/// The cause of a run from its scenes, in the order of the search: the first headline's, with the mismatches that it does not
/// explain in `others`. Named as long as every headline has the same name; confirmed where every substitution agrees, else
/// withdrawn.
isolate::Cause combined(const std::vector<SearchedScene>& scenes);

}  // namespace greta::cli
