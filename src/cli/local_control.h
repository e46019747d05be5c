// Controls of local error: an element of arm B's decode step is moved by 4 times its rounding bound, and judged again.
#pragma once

#include <optional>

#include "cli/aligned_run.h"
#include "isolate/local_control.h"

namespace greta::cli {

/// Runs the step twice: as it is, which tells the element's bound, and with the perturbation. Nothing where the element has no
/// finite bound.
std::optional<isolate::LocalControl> control_locally(AlignedRun& run, const RunContext& context,
                                                     const isolate::ControlSpec& spec);

}  // namespace greta::cli
