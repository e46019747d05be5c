// What a gate found: for the terminal, as Markdown, as JSON (docs/gate.md).
#pragma once

#include <string>

#include "isolate/gate.h"

namespace greta::report {

/// "max 3.1e-03 (at most 1e-03; baseline 9e-04): 0.0031 is more than 0.001".
std::string gate_line(const isolate::Check& check);
/// A line for every check, and the result with its exit code.
std::string gate_text(const isolate::GateOutcome& gate);
/// A heading, the verdict and a table with a row for every check.
std::string gate_markdown(const isolate::GateOutcome& gate);
/// Indented JSON with a trailing newline; figures that are not finite are strings ("NaN", "Infinity"), unknown ones null.
std::string gate_json(const isolate::GateOutcome& gate);

}  // namespace greta::report
