// How inherited error grows on its way through a layer: what a stage makes of the difference that its input has.
#pragma once

#include <vector>

#include "trace/record.h"

namespace greta::isolate {

struct StageGain {
  Stage stage = Stage::x_in;
  double rel = 0;   // median over layers of the rows' relative RMS difference
  double gain = 0;  // median over layers of rel / rel of the input; above 1: the stage amplifies
  int layers = 0;   // that the medians are over
};

/// Of the rows at `position` of both arms; of several inputs the one that differs most counts. Stages whose rows, or whose
/// inputs', are equal or were not recorded are left out; so are scores and probabilities, whose relative difference says
/// little.
std::vector<StageGain> gains(const Capture& a, const Capture& b, int position);

}  // namespace greta::isolate
