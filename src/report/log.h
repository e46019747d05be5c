// The log of one prompt, <experiment>_<exp>_<prompt>.log.
#pragma once

#include <string>

#include "isolate/outcome.h"

namespace greta::report {

/// Arms, schedules, keys, every minimal mismatch with its operands, controls of this prompt, verdict.
std::string prompt_log(const isolate::Outcome& outcome, const isolate::PromptOutcome& prompt);

}  // namespace greta::report
