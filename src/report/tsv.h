// The table <experiment>_analysis.txt, as the original report's script wrote it: tab-separated, values as Python prints them.
#pragma once

#include <optional>
#include <string>

#include "isolate/outcome.h"

namespace greta::report {

/// repr() of a Python float: shortest digits that read back the same, "1e-05", "0.0", "inf", "nan".
std::string python_repr(double value);

/// Line 1 a title, line 2 the columns, then one row a prompt; every line ends in a newline.
std::string tsv(const isolate::Outcome& outcome);

}  // namespace greta::report
