// Tracing of `greta run`: what is recorded and where it goes.
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cli/environment.h"
#include "isolate/experiment.h"
#include "recording/recorder.h"
#include "trace/record.h"

namespace greta::cli {

struct TraceFlags {
  std::string stages, layers, phases, out;
  std::int64_t sample = -1;
  bool full = false;

  void add_to(CLI::App& verb);
};

/// What to trace, from flags and environment (flags win).
class TracePlan {
 public:
  /// nullopt: nothing is traced. Throws Error on an unknown stage, layer or phase.
  static std::optional<TracePlan> from(const TraceFlags& flags, const Environment& env, const std::string& prompt_id,
                                       isolate::ExpMode exp, int n_layers);

  /// Of a prompt of n tokens.
  RecorderOptions options(std::int32_t n_prompt) const;
  const std::filesystem::path& out() const { return out_; }
  bool full() const { return full_; }
  const std::vector<Stage>& stages() const { return stages_; }
  const isolate::LayerSelection& layers() const { return layers_; }
  std::int64_t sample() const { return sample_; }

  /// Drops records of phases that are not wanted: "prefill" (every row of it), "prefill_last", "decode" (every step),
  /// "decodeK".
  void keep_wanted(Capture& capture, std::int32_t first_decode) const;
  /// One run's capture as the two sides of a trace: prefill is side A, decode side B.
  static std::pair<Capture, Capture> split(Capture capture);
  /// Writes the JSONL, replacing a file of that name whole.
  void write(const Capture& a, const Capture& b, isolate::ExpMode exp) const;

 private:
  std::vector<Stage> stages_;
  isolate::LayerSelection layers_;
  std::vector<std::int32_t> layer_numbers_;
  std::int64_t sample_ = 1024;
  bool all_prefill_ = false, prefill_last_ = true, all_decode_ = true;
  std::set<std::int32_t> decode_steps_;
  bool full_ = false;
  std::filesystem::path out_;
};

}  // namespace greta::cli
