// The summary for a terminal.
#pragma once

#include <string>

#include "isolate/outcome.h"

namespace greta::report {

/// Table, first mismatch and its evidence, top-1 tokens, collapse, controls, verdict, next command.
std::string text(const isolate::Outcome& outcome);

/// The cause of a run, with its bucket and what else was tried: for `greta audit DIR`.
std::string audit_text(const isolate::Cause& cause);

}  // namespace greta::report
