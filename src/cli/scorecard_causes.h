// Which names of a cause are right for a kind of fault: what the scorecard holds the audit to. The audit never sees it.
#pragma once

#include <span>
#include <string_view>

namespace greta::cli {

/// Hypotheses that are the fault's own, or cannot be told from it by any row it makes (audit/cause_classes.h). Empty: no
/// hypothesis describes it, so that only its place can be known.
std::span<const std::string_view> right_names(std::string_view kind);

}  // namespace greta::cli
