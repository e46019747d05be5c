// Hypotheses about the precision of sums.
#include <array>
#include <utility>
#include <vector>

#include "audit/hypotheses/few_outputs.h"
#include "audit/hypothesis.h"
#include "audit/narrow_sum.h"

namespace greta::audit {
namespace {

/// Whether a few outputs of a product are worth computing all; other ops are.
bool explains_few(const Scene& scene, const FewOutputs& few, SumOrder order) {
  if (few.outputs.empty()) return true;
  const std::vector<double> values = narrow_row(scene.right, order, few.outputs);
  double left = 0;
  for (std::size_t k = 0; k < few.outputs.size(); ++k) {
    const double rest = scene.actual[static_cast<std::size_t>(few.outputs[k])] - values[k];
    left += rest * rest;
  }
  return !(left > 0.5 * few.squares);
}

/// The sums ran in fewer bits, terms in order. Other orders of such sums are not told from other small errors, hence not named.
void propose_precision(const Scene& scene, const Emit& emit) {
  const OpClass op = scene.right.op.op;
  constexpr std::int64_t kMostTerms = std::int64_t{1} << 26;
  if (op != OpClass::matmul && op != OpClass::qk && op != OpClass::pv) return;
  if (op == OpClass::matmul && scene.right.matrix.n_in * scene.right.matrix.n_out > kMostTerms) return;
  const FewOutputs few = few_outputs(scene);
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const bool fused : {false, true}) {
      const SumOrder order{.dtype = dtype, .fused = fused};
      if (!explains_few(scene, few, order)) continue;
      std::vector<double> values = narrow_row(scene.right, order);
      emit({"accumulation",
            {{"type", std::string(name(dtype))}, {"products", fused ? "fused" : "rounded"}},
            scene.right,
            [values = std::move(values)](Estimate& estimate) { estimate.value = values; },
            true});
    }
  }
}

constexpr std::array kAccumulation{
    Hypothesis{"accumulation", "sums ran in fewer bits than the route declares", propose_precision}};

}  // namespace

std::span<const Hypothesis> accumulation_hypotheses() { return kAccumulation; }

}  // namespace greta::audit
