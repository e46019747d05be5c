// Which names of a cause are right for a kind of fault: what the scorecard holds the audit to. The audit never sees it.
#pragma once

#include <string_view>

#include "isolate/outcome.h"

namespace greta::cli {

/// Whether the named cause is that of the planted fault (fault/spec.h text). A hypothesis has to be the fault's own, with its
/// parameters where both have them (epsilon, theta, shift of rows, stage read); a class (audit/cause_classes.h) has to hold it
/// among those that the row left (`one_of`). False for every name where no hypothesis describes the kind, so that only its
/// place can be known.
bool is_right_cause(std::string_view fault, const isolate::Cause& cause);

}  // namespace greta::cli
