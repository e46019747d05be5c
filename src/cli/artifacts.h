// The run directory of an experiment: everything that `greta isolate` leaves behind.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/aligned_run.h"
#include "cli/scene.h"
#include "isolate/outcome.h"
#include "model/config.h"
#include "report/markdown.h"
#include "trace/run_directory.h"

namespace greta::cli {

class RunArtifacts {
 public:
  /// `out` empty: artifacts/alignment/<date>/<experiment>[-N]. Throws Error where `out` is a directory that is not empty.
  RunArtifacts(const std::string& out, const std::string& experiment, const std::string& date);

  const std::filesystem::path& final_path() const { return directory_.path(); }
  /// Verdict, report, table, and for every prompt the JSONL, the log and the fingerprints of both arms.
  void write(const isolate::Outcome& outcome, const std::vector<isolate::PromptPair>& pairs, report::Language language);
  /// captures/{a,b}/<prompt>/full.safetensors: every recorded row whole.
  void write_full(const isolate::PromptPair& pair, const AlignedRun& run, const ModelConfig& config);
  /// audit/: what each search for a cause was made from.
  void write_scenes(const std::vector<SearchedScene>& scenes, const Model& model_a, const std::string& path_a,
                    const Model& model_b, const std::string& path_b);
  /// Writes the manifest and gives the directory its name. Until then it ends in .incomplete.
  void commit() { directory_.finish(); }

 private:
  std::string experiment_;
  RunDirectory directory_;
};

/// Rows kept whole, as a safetensors file (write_stage_tensors).
void write_full_tensors(const std::filesystem::path& file, const FullTensors& tensors, int n_heads,
                        const std::vector<std::int32_t>& tokens);

}  // namespace greta::cli
