// The summary for a terminal.
#pragma once

#include <string>

#include "isolate/outcome.h"

namespace greta::report {

/// Table, first mismatch and its evidence, top-1 tokens, collapse, controls, verdict, next command.
std::string text(const isolate::Outcome& outcome);

}  // namespace greta::report
