// Hypotheses about the output as a whole: a factor, a few elements, the precision of its sums.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "audit/hypothesis.h"
#include "audit/narrow_sum.h"

namespace greta::audit {
namespace {

/// The output is the right one times a number: fitted, which one parameter cannot make of a row of many elements by chance.
void propose_factor(const Scene& scene, const Emit& emit) {
  double products = 0, squares = 0;
  std::size_t counted = 0;
  for (std::size_t i = 0; i < scene.actual.size(); ++i) {
    if (!std::isfinite(scene.actual[i]) || !std::isfinite(scene.due.value[i])) continue;
    products += scene.actual[i] * scene.due.value[i];
    squares += scene.due.value[i] * scene.due.value[i];
    ++counted;
  }
  if (counted < 8 || !(squares > 0)) return;
  const double factor = products / squares;
  if (!std::isfinite(factor) || factor == 0 || std::fabs(factor - 1) < 1e-6) return;  // nobody scales by that
  emit({"factor",
        {{"factor", fmt::format("{:.6g}", factor)}},
        scene.right,
        [factor](Estimate& estimate) {
          for (std::size_t i = 0; i < estimate.value.size(); ++i) {
            estimate.value[i] *= factor;
            estimate.bound[i] *= std::fabs(factor);
            estimate.worst[i] *= std::fabs(factor);
            if (!estimate.common.empty()) estimate.common[i] *= std::fabs(factor);
          }
        },
        true});
}

/// All but a few neighbouring elements are right: one was altered, or a tail was not written.
void propose_elements(const Scene& scene, const Emit& emit) {
  std::size_t first = scene.actual.size(), last = 0, wrong = 0;
  for (std::size_t i = 0; i < scene.actual.size(); ++i) {
    if (std::fabs(scene.actual[i] - scene.due.value[i]) <= scene.due.bound[i] || scene.actual[i] == scene.due.value[i])
      continue;
    first = std::min(first, i);
    last = i;
    ++wrong;
  }
  const std::size_t count = wrong == 0 ? 0 : last - first + 1;
  if (count == 0 || count * 4 > scene.actual.size()) return;
  const bool tail = last + 1 == scene.actual.size();
  emit({count == 1 ? "element"
        : tail     ? "tail-unwritten"
                   : "elements",
        {{"first", std::to_string(first)}, {"count", std::to_string(count)}},
        scene.right,
        [&scene, first, last](Estimate& estimate) {
          for (std::size_t i = first; i <= last; ++i) estimate.value[i] = scene.actual[i];
        },
        true});
}

/// The sums ran in fewer bits, terms in order. Other orders of such sums are not told from other small errors, hence not named.
void propose_precision(const Scene& scene, const Emit& emit) {
  const OpClass op = scene.right.op.op;
  constexpr std::int64_t kMostTerms = std::int64_t{1} << 24;
  if (op != OpClass::matmul && op != OpClass::qk && op != OpClass::pv) return;
  if (op == OpClass::matmul && (scene.right.quantised || scene.right.matrix.n_in * scene.right.matrix.n_out > kMostTerms))
    return;
  for (const DType dtype : {DType::f16, DType::bf16}) {
    for (const bool fused : {false, true}) {
      std::vector<double> values = narrow_row(scene.right, {dtype, fused, 1});
      emit({"accumulation",
            {{"type", std::string(name(dtype))}, {"products", fused ? "fused" : "rounded"}},
            scene.right,
            [values = std::move(values)](Estimate& estimate) { estimate.value = values; },
            true});
    }
  }
}

constexpr std::array kOutputs{
    Hypothesis{"elements", "a few elements were altered after the op, or not written", propose_elements},
    Hypothesis{"factor", "the output is the right one times a number", propose_factor},
    Hypothesis{"accumulation", "sums ran in fewer bits than the route declares", propose_precision}};

}  // namespace

std::span<const Hypothesis> output_hypotheses() { return kOutputs; }

}  // namespace greta::audit
