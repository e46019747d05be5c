// Which names of a cause are right for a kind of fault: what the scorecard holds the audit to. The audit never sees it.
#pragma once

#include <string_view>

namespace greta::cli {

/// Whether `name` is a hypothesis that says what this kind of fault does, one of its class, or the name of the class
/// (audit/cause_classes.h). False for every name where no hypothesis describes the kind, so that only its place can be known.
bool is_right_name(std::string_view kind, std::string_view name);

}  // namespace greta::cli
