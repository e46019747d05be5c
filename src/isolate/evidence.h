// What both arms' kernels were given where they first differ.
#pragma once

#include "isolate/compare.h"
#include "isolate/outcome.h"

namespace greta::isolate {

/// Operands of the op that wrote the pair's rows, met by kind and argument name; one that a side lacks is left out.
std::vector<OperandEvidence> operand_evidence(const StageRecord& a, const StageRecord& b);

/// The finding as report sees it; `with_operands` for the headline and minimal ones.
Mismatch to_mismatch(const Finding& finding, bool with_operands);

}  // namespace greta::isolate
