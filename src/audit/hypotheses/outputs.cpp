// Hypotheses about the output: a factor, the sign, the cap, a few elements.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "audit/hypothesis.h"

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

/// Elements [first, last] within which all that are wrong lie.
struct WrongElements {
  std::size_t first = 0, last = 0;
  std::size_t count = 0;  // last - first + 1; 0: none is wrong
};

WrongElements wrong_elements(const Scene& scene) {
  WrongElements out;
  for (std::size_t i = 0; i < scene.actual.size(); ++i) {
    if (std::fabs(scene.actual[i] - scene.due.value[i]) <= scene.due.bound[i] || scene.actual[i] == scene.due.value[i])
      continue;
    if (out.count == 0) out.first = i;
    out.last = i;
    out.count = out.last - out.first + 1;
  }
  return out;
}

/// Takes elements [first, last] as they are.
std::function<void(Estimate&)> as_written(const Scene& scene, std::size_t first, std::size_t last) {
  return [&scene, first, last](Estimate& estimate) {
    for (std::size_t i = first; i <= last; ++i) estimate.value[i] = scene.actual[i];
  };
}

/// A tail that was not written holds what the last call of the stage left there: the tail of another row, in this layer or the
/// one before.
void propose_held_tail(const Scene& scene, const Emit& emit) {
  const WrongElements wrong = wrong_elements(scene);
  const auto& [stage, own_layer] = scene.right.place;
  if (wrong.count == 0 || wrong.count == scene.actual.size() || wrong.last + 1 != scene.actual.size()) return;
  const auto tail = scene.actual.subspan(wrong.first);
  for (const int layer : {own_layer, own_layer - 1}) {
    for (const int position : layer < 0 ? std::vector<int>() : scene.rows.positions(stage, layer)) {
      const auto row = scene.rows.row(stage, layer, position);
      if ((layer == own_layer && position == scene.right.position) || row.size() != scene.actual.size()) continue;
      if (!std::equal(tail.begin(), tail.end(), row.begin() + static_cast<std::ptrdiff_t>(wrong.first))) continue;
      emit({"tail-unwritten",
            {{"first", std::to_string(wrong.first)},
             {"count", std::to_string(wrong.count)},
             {"holds", fmt::format("layer {} position {}", layer, position)}},
            scene.right,
            as_written(scene, wrong.first, wrong.last),
            false});
      return;
    }
  }
}

/// All but a few neighbouring elements are right: one was altered, or a tail was not written. What is NaN is said in nan.cpp.
void propose_elements(const Scene& scene, const Emit& emit) {
  const auto [first, last, count] = wrong_elements(scene);
  if (count == 0 || count * 4 > scene.actual.size()) return;
  const bool has_nan =
      std::any_of(scene.actual.begin() + static_cast<std::ptrdiff_t>(first),
                  scene.actual.begin() + static_cast<std::ptrdiff_t>(last) + 1, [](double value) { return std::isnan(value); });
  const auto say = [&](const char* hypothesis) {
    emit({hypothesis,
          {{"first", std::to_string(first)}, {"count", std::to_string(count)}},
          scene.right,
          as_written(scene, first, last),
          true});
  };
  const bool tail = last + 1 == scene.actual.size();
  if (tail) say("tail-unwritten");
  if (!has_nan && (count == 1 || !tail)) say(count == 1 ? "element" : "elements");
}

/// Zeros where numbers are due: nobody wrote the row. A KV slot of zeros is slots.cpp's.
void propose_unwritten(const Scene& scene, const Emit& emit) {
  if (scene.right.op.op == OpClass::kv_write) return;
  if (!std::all_of(scene.actual.begin(), scene.actual.end(), [](double value) { return value == 0; })) return;
  const auto zeros = [](Estimate& estimate) { std::fill(estimate.value.begin(), estimate.value.end(), 0.0); };
  emit({"output-unwritten", {}, scene.right, zeros, false});
}

/// The whole output has the other sign, or what the activation reads.
void propose_sign(const Scene& scene, const Emit& emit) {
  const auto negate = [](Estimate& estimate) {
    for (double& value : estimate.value) value = -value;
  };
  emit({"sign", {{"of", "output"}}, scene.right, negate, false});
  if (scene.right.op.op != OpClass::act_mul) return;
  RowCase altered = scene.right;
  for (double& value : altered.inputs[0]) value = -value;
  emit({"sign", {{"of", "gate"}}, std::move(altered), {}, false});
}

/// A cap on the logits that is left out.
void propose_no_cap(const Scene& scene, const Emit& emit) {
  if (scene.right.op.op != OpClass::softcap) return;
  RowCase altered = scene.right;
  altered.op.op = OpClass::handoff;
  emit({"softcap-missing", {}, std::move(altered), {}, false});
}

constexpr std::array kOutputs{
    Hypothesis{"output-unwritten", "the row was not written: it holds zeros", propose_unwritten},
    Hypothesis{"sign", "the output, or an input, has the other sign", propose_sign},
    Hypothesis{"softcap-missing", "the logits are not capped", propose_no_cap},
    Hypothesis{"tail-unwritten", "the last elements are those of another row of the stage, whose buffer this was",
               propose_held_tail},
    Hypothesis{"elements", "a few elements were altered after the op, or not written", propose_elements},
    Hypothesis{"factor", "the output is the right one times a number", propose_factor}};

}  // namespace

std::span<const Hypothesis> output_hypotheses() { return kOutputs; }

}  // namespace greta::audit
