// Hypotheses about what an op reads: another stage's row, or the right stage's row of another position.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

/// Whether the row may depend on the guilty one: what came of an output is no input, and may give it back (RoPE at position 0).
bool comes_later(const Scene& scene, Stage stage, int layer, int position) {
  const auto& [own_stage, own_layer] = scene.right.place;
  return position >= scene.right.position && (layer > own_layer || (layer == own_layer && stage >= own_stage));
}

/// Argument `which` of the op replaced by every kept row of its width, of this layer and of the one before. A product that
/// should read blocks may read a row that is not quantised.
void replace_input(const Scene& scene, std::size_t which, const Emit& emit) {
  const RowCase& right = scene.right;
  const Place due = right.op.inputs[which];
  constexpr int kMostPositions = 512;
  for (const int layer : {right.place.layer, right.place.layer - 1, scene.contract.model.n_layers}) {
    if (layer < 0) continue;
    for (const Stage stage : all_stages()) {
      if ((is_quantised(stage) && !is_quantised(due.stage)) || once_per_token(stage) != (layer == scene.contract.model.n_layers))
        continue;
      const std::vector<int> positions = scene.rows.positions(stage, layer);
      int tried = 0;
      for (const int position : positions) {
        if (right.op.op == OpClass::kv_write && position != right.position) continue;  // slots.cpp
        if (stage == due.stage && layer == due.layer && position == right.position) continue;
        if (comes_later(scene, stage, layer, position)) continue;
        const auto row = scene.rows.row(stage, layer, position);
        if (row.size() != right.inputs[which].size()) break;
        if (std::all_of(row.begin(), row.end(), [](double value) { return value == 0; })) continue;  // no stage in particular
        if (++tried > kMostPositions) break;
        RowCase altered = right;
        altered.inputs[which].assign(row.begin(), row.end());
        altered.quantised = is_quantised(stage) && scene.rows.dtype(stage, layer) == DType::q8_f32;
        emit({"input",
              {{"argument", std::to_string(which)},
               {"stage", std::string(name(stage))},
               {"layer", std::to_string(layer)},
               {"position", std::to_string(position)}},
              std::move(altered),
              {},
              false});
      }
    }
  }
}

void propose_input(const Scene& scene, const Emit& emit) {
  for (std::size_t which = 0; which < scene.right.inputs.size(); ++which) replace_input(scene, which, emit);
}

/// The head's input at another position, made from x_out as the arm makes it; empty where that was not kept.
std::vector<double> head_input(const Scene& scene, int position) {
  const int n_layers = scene.contract.model.n_layers;
  const auto computed = [&](const RowCase& row) {
    return estimate(row, arithmetic_of(scene.rows.route(row.place.stage, n_layers), row)).value;
  };
  const Op norm{OpClass::rmsnorm, {{Stage::x_out, n_layers - 1}}, "output_norm.weight", {}};
  const RightCase other = right_case(scene.contract, scene.rows, norm, {Stage::final_rms, n_layers}, position, 0);
  if (!other.row) return {};
  std::vector<double> normed = computed(*other.row);
  const auto type = scene.rows.dtype(Stage::lm_head_in_q8, n_layers);
  if (!type || !is_quantised(scene.right.op.inputs[0].stage)) return normed;
  if (scene.rows.dtype(Stage::final_rms, n_layers) == DType::f32)
    for (double& value : normed) value = static_cast<double>(static_cast<float>(value));  // as it is stored
  RowCase codes;
  codes.op = {OpClass::quantize, {{Stage::lm_head_in, n_layers}}, {}, {}};
  codes.place = {Stage::lm_head_in_q8, n_layers};
  codes.held = DType::f32;
  codes.stored = *type;
  codes.inputs.push_back(std::move(normed));
  return computed(codes);
}

/// What rounding of the other norm may add: the head's input was not kept, and the one made here differs by that.
void widen(Estimate& estimate) {
  constexpr double kNormUnits = 0x1p-22;
  double largest = 0;
  for (const double value : estimate.value) largest = std::fmax(largest, std::fabs(value));
  for (auto* bounds : {&estimate.bound, &estimate.worst})
    for (double& bound : *bounds) bound += kNormUnits * largest;
}

/// The head computes the logits of a position from the final norm of another: rows of it exist only where logits are wanted.
void propose_logits_row(const Scene& scene, const Emit& emit) {
  if (scene.right.op.op != OpClass::matmul || !once_per_token(scene.right.place.stage)) return;
  for (const int delta : {-1, 1, -2, 2, -3, -4}) {
    const int position = scene.right.position + delta;
    if (position < 0) continue;
    RowCase altered = scene.right;
    altered.inputs[0] = head_input(scene, position);
    if (altered.inputs[0].empty()) continue;
    emit({"logits-row",
          {{"delta", std::to_string(delta)}},
          std::move(altered),
          is_quantised(scene.right.op.inputs[0].stage) ? std::function<void(Estimate&)>(widen) : nullptr,
          false});
  }
}

constexpr std::array kInputs{Hypothesis{"logits-row", "the logits are those of another position", propose_logits_row},
                             Hypothesis{"input", "the op reads another stage's row, or another position's", propose_input}};

}  // namespace

std::span<const Hypothesis> input_hypotheses() { return kInputs; }

}  // namespace greta::audit
