// What a difference means for the tokens that are sampled: flips of the top-1 along the span, and how near the others are.
#pragma once

#include <optional>

#include "trace/record.h"

namespace greta::isolate {

/// Over the positions of which both arms have logits.
struct Severity {
  int positions = 0;
  int flips = 0;            // the top-1 differs
  int first_flip = -1;      // position; -1: none
  double largest_risk = 0;  // of a flip, of one position
  int riskiest = -1;        // where; -1: no position has a risk
  double mean_risk = 0;
};

/// That errors of RMS `rms` an element, independent and normal, turn round two logits that are `gap` apart: their difference
/// then has the standard deviation sqrt(2) rms, and the chance is erfc(gap / (2 rms)) / 2. 0 for rms 0 and a gap above 0.
double flip_risk(double gap, double rms);

/// nullopt without a common position. A risk counts where no flip has happened and the difference of the logits is finite.
std::optional<Severity> severity(const Capture& a, const Capture& b);

}  // namespace greta::isolate
