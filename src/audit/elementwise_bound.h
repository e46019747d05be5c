// Ops whose elements depend on one element of each operand.
#pragma once

#include <span>

#include "audit/arithmetic.h"
#include "audit/estimate.h"
#include "core/activation.h"

namespace greta::audit {

/// A table's row, [d_model], times `scale`: one rounding and that of the scale itself; 1 leaves it as it is.
Estimate embed(std::span<const double> table_row, double scale, const Arithmetic& arithmetic);

/// a + b, [n]: one rounding.
Estimate add(std::span<const double> a, std::span<const double> b, const Arithmetic& arithmetic);

/// gate / (1 + exp(-v)) * up, [n], v = gate for SiLU and sqrt(8/pi) (gate + 0.044715 gate^3) for GELU's tanh form. With E =
/// exp(-v), v errs by 4 roundings where fused and 7 where not (GELU), which E / (1 + E) passes on, as it does the error of exp;
/// then a sum, a quotient, a product. Where E overflows, the result may be 0.
Estimate act_mul(Activation act, std::span<const double> gate, std::span<const double> up, const Arithmetic& arithmetic);

/// cap * tanh(x / cap), [n]: quotient and cap pass through 1 - tanh^2, then tanh's own error, the product, the cap.
Estimate softcap(std::span<const double> x, double cap, const Arithmetic& arithmetic);
/// The same of one value that has errors already: value becomes capped.
template <class Real>
void softcap(Real& value, Errors& errors, double cap, const Arithmetic& arithmetic);

/// A hand-over: every element has to be equal.
Estimate handoff(std::span<const double> x);

}  // namespace greta::audit
