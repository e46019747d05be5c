// Captures from wherever they lie: what `analyze` and `compare` read.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "trace/issue.h"
#include "trace/jsonl.h"
#include "trace/record.h"

namespace greta {

struct LoadOptions {
  JsonlOptions jsonl;
  /// Also read captures/ of a run directory: the rows that the JSONL leaves out. Off: the JSONL alone.
  bool stores = true;
};

/// What both arms recorded for one prompt and mode; an arm that is not there is nullopt.
struct LoadedPair {
  std::string prompt_id, exp;
  std::optional<Capture> a, b;
};

struct LoadedCaptures {
  std::vector<LoadedPair> pairs;  // in order of first appearance (files by name)
  std::vector<Issue> issues;
  bool verified = false;   // a run directory whose manifest was checked
  std::string experiment;  // of the manifest; empty: unknown
  std::int64_t unreadable_lines() const { return lines_lost(issues); }
};

/// `path` is a run directory (with a manifest: every file is verified first), a directory of *.jsonl without one, one
/// captures/<arm>/<prompt> directory, or one JSONL file. Throws Error where it is none of these, is incomplete, or fails its
/// verification.
LoadedCaptures load_captures(const std::filesystem::path& path, const LoadOptions& options = {});

/// Stages that exist once a token carry the number of layers as their layer. Captures of other engines may not know it, so it
/// is taken from the layers seen in either, and set in both.
void unify_layer_counts(Capture& a, Capture& b);

}  // namespace greta
