// A few outputs of a matrix product and what they are off by: enough to see which inputs a wrong product got wrong.
#pragma once

#include <cstdint>
#include <vector>

#include "audit/hypothesis.h"

namespace greta::audit {

struct FewOutputs {
  std::vector<std::int64_t> outputs;
  std::vector<double> residual;  // actual - due of each
  double squares = 0;            // of the residuals
};

/// Up to 32 finite outputs, spread over the row. Empty for other ops than products, and where nothing of them is off.
FewOutputs few_outputs(const Scene& scene);

}  // namespace greta::audit
