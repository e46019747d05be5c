// report.md: the original report's sections in its order, every sentence from measured values.
#pragma once

#include <string>

#include "isolate/outcome.h"
#include "report/language.h"

namespace greta::report {

/// Spanish first where both are asked for.
std::string markdown(const isolate::Outcome& outcome, Language language);

}  // namespace greta::report
