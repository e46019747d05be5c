// The baseline of a gate as a file: JSON, schema 1 (docs/gate.md).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

#include "isolate/gate.h"

namespace greta::report {

/// Indented JSON with a trailing newline. Throws Error naming the prompt and figure that is not finite.
std::string baseline_json(const isolate::GateOutcome& gate);
/// `where` names the text in errors. Throws Error: no JSON, another schema, a field that is missing or wrong, no prompts, a
/// prompt twice.
isolate::Baseline parse_baseline(std::string_view text, const std::string& where);
/// Throws Error, also where the file is missing or has more than 64 MiB.
isolate::Baseline load_baseline(const std::filesystem::path& file);

}  // namespace greta::report
