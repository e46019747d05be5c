// A guilty row and the rows about it: what a search for its cause looks through.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "audit/hypothesis.h"
#include "audit/local_error.h"
#include "cli/aligned_run.h"
#include "cli/file_contract.h"
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

/// Leaves out, above 32 MiB, what a search can do without: scores and probabilities of other positions, then the neighbouring
/// layers but for their KV slots and what they hand over.
void trim(SceneRows& scene);

/// A guilty row among its arm's rows, with the model file that its op is held to. All that it is given outlives it.
class OpenScene {
 public:
  OpenScene(const KeptRows& rows, const std::vector<std::int32_t>& tokens, const isolate::StageRow& row, bool reread,
            const Gguf& file);
  OpenScene(const OpenScene&) = delete;
  OpenScene& operator=(const OpenScene&) = delete;
  /// The operand that was not kept, in words; empty: nothing is missing, and the rest may be asked for.
  const std::string& missing() const { return missing_; }
  const audit::Op& op() const { return *op_; }
  std::span<const double> wrong() const { return actual_; }
  const audit::Estimate& right() const { return due_; }
  const audit::LocalError& error() const { return error_; }
  /// Nearest first; nothing where the row is within its bound.
  std::vector<audit::Explained> explain() const;
  /// Whether this hypothesis, or one that rows may not tell from it, gives the row.
  bool is_explained_by(std::string_view hypothesis) const;

 private:
  audit::Scene scene() const { return {both_, rows_, tokens_, *case_.row, actual_, due_}; }

  const KeptRows& rows_;
  const std::vector<std::int32_t>& tokens_;
  audit::ModelContract contract_;
  FileTensors tensors_;
  audit::Contract both_{contract_, tensors_};
  std::optional<audit::Op> op_;
  std::span<const double> actual_;
  audit::RightCase case_;
  audit::Arithmetic arithmetic_;
  audit::Estimate due_;
  audit::LocalError error_;
  std::string missing_;
};

/// What explains the guilty row, nearest first; nothing where it is within its bound or lacks an operand, whose name then is in
/// `missing`.
std::vector<audit::Explained> search_scene(const SceneRows& scene, const Gguf& file, std::string& missing);

/// A search and what it found.
struct SearchedScene {
  SceneRows scene;
  std::vector<audit::Explained> found;
  std::string missing;  // an operand that was not kept
};
/// State, name, parameters, candidates and place of one search.
isolate::Cause cause_of(const SearchedScene& searched);
/// The cause of a run from its scenes, in the order of the search. Named: what explains every headline (audit::named_cause).
/// What is guilty beside what headlines explain is in `others`. Names are confirmed where every substitution agrees, else
/// withdrawn.
isolate::Cause combined(const std::vector<SearchedScene>& scenes);

}  // namespace greta::cli
