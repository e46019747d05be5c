// RMSNorm.
#pragma once

#include <span>

#include "audit/arithmetic.h"
#include "audit/estimate.h"

namespace greta::audit {

/// x / sqrt(mean(x^2) + eps) * gain for each group of gain.size() elements of a row x, [n] (Zhang & Sennrich 2019, eq. 4).
///
/// Relative errors, with q the sum of squares and h = mean / (mean + eps): the scale errs by (h (e_q / q + u) + u + u eps /
/// (mean + eps)) / 2 for the sum, the mean, the addition of eps and eps itself, and by root and quotient; all elements share
/// that
/// (`common`). Then each has two roundings of its own.
Estimate rmsnorm(std::span<const double> x, std::span<const double> gain, double eps, const Arithmetic& arithmetic);

}  // namespace greta::audit
