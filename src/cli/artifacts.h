// The run directory of an experiment: everything that `greta isolate` leaves behind.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "cli/aligned_run.h"
#include "isolate/outcome.h"
#include "model/config.h"
#include "report/markdown.h"
#include "trace/run_directory.h"

namespace greta::cli {

class RunArtifacts {
 public:
  /// `out` empty: artifacts/alignment/<date>/<experiment>[-N]. Throws Error where `out` is a directory that is not empty.
  RunArtifacts(const std::string& out, const std::string& experiment, const std::string& date);

  std::filesystem::path final_path() const;
  /// Verdict, report, table, and for every prompt the JSONL, the log and the fingerprints of both arms.
  void write(const isolate::Outcome& outcome, const std::vector<isolate::PromptPair>& pairs, report::Language language);
  /// captures/{a,b}/<prompt>/full.safetensors: every recorded row whole.
  void write_full(const std::string& prompt, const AlignedRun& run, const ModelConfig& config);
  /// Writes the manifest and gives the directory its name. Until then it ends in .incomplete.
  void commit();

 private:
  std::string experiment_;
  RunDirectory directory_;
};

/// Rows kept whole as safetensors entries: `<layer>.<stage>` [n_tokens, dim] (attention stages [n_tokens, heads, keys], padded
/// with zeros), `final_rms`, `lm_head_in`, `logits`.
void write_full_tensors(const std::filesystem::path& file, const FullTensors& tensors, int n_heads);

}  // namespace greta::cli
