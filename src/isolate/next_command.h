// What to run next: every verdict ends with a command.
#pragma once

#include <string>

#include "isolate/outcome.h"

namespace greta::isolate {

/// From the judgement and the first mismatch; appends to RunInfo::next_base or next_other_plan.
std::string next_command(const Outcome& outcome);

}  // namespace greta::isolate
