// Hypotheses about the residual sums.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

void propose_sum(const Scene& scene, const Emit& emit) {
  if (scene.right.op.op != OpClass::add) return;
  const auto with = [&](const char* what, double a, double b) {
    RowCase altered = scene.right;
    for (double& value : altered.inputs[0]) value *= a;
    for (double& value : altered.inputs[1]) value *= b;
    // Whoever adds one of them twice rounds in between, by what may be larger than the sum.
    const auto rounds_between = [inputs = altered.inputs, unit = rounding_of(scene.right.stored).unit](Estimate& estimate) {
      for (std::size_t i = 0; i < estimate.bound.size(); ++i)
        estimate.bound[i] += unit * (std::fabs(inputs[0][i]) + std::fabs(inputs[1][i]));
    };
    emit({"residual", {{"sum", what}}, std::move(altered), rounds_between, false});
  };
  with("branch alone", 0, 1);
  with("stream alone", 1, 0);
  with("stream twice", 2, 1);
  with("branch twice", 1, 2);
  with("difference", 1, -1);
  with("difference reversed", -1, 1);
}

constexpr std::array kResidual{
    Hypothesis{"residual", "an input of the sum is missing, counted twice or subtracted", propose_sum}};

}  // namespace

std::span<const Hypothesis> residual_hypotheses() { return kResidual; }

}  // namespace greta::audit
