// The sentences of report.md, section by section, in one language each time.
#pragma once

#include <string>

#include "isolate/outcome.h"

namespace greta::report::prose {

std::string summary(const isolate::Outcome& outcome, bool spanish);
std::string context(const isolate::Outcome& outcome, bool spanish);
std::string method(const isolate::Outcome& outcome, bool spanish);
std::string interpretation(const isolate::Outcome& outcome, bool spanish);
std::string conclusion(const isolate::Outcome& outcome, bool spanish);
/// The sentence before the next command.
std::string next_step(const isolate::Outcome& outcome, bool spanish);

}  // namespace greta::report::prose
