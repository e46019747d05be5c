// The baseline of a gate as a file: JSON, schema 1 (docs/gate.md).
#pragma once

#include <filesystem>
#include <string>

#include "isolate/gate.h"

namespace greta::report {

/// Indented JSON with a trailing newline. Throws Error naming the prompt and figure that is not finite.
std::string baseline_json(const isolate::GateOutcome& gate);
/// Throws Error, one line naming the file: missing, above 64 MiB, no JSON, another schema, a field that is missing or wrong, no
/// prompts, a prompt twice.
isolate::Baseline load_baseline(const std::filesystem::path& file);

}  // namespace greta::report
