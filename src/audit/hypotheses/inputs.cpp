// Hypotheses about what an op reads: another stage's row, or the right stage's row of another position.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

/// Argument `which` of the op replaced by every kept row of its width, of this layer and of the one before.
void replace_input(const Scene& scene, std::size_t which, const Emit& emit) {
  const RowCase& right = scene.right;
  const Place due = right.op.inputs[which];
  constexpr int kMostPositions = 512;
  for (const int layer : {right.place.layer, right.place.layer - 1, scene.contract.model.n_layers}) {
    if (layer < 0) continue;
    for (const Stage stage : all_stages()) {
      if (is_quantised(stage) != right.quantised || once_per_token(stage) != (layer == scene.contract.model.n_layers)) continue;
      const std::vector<int> positions = scene.rows.positions(stage, layer);
      int tried = 0;
      for (const int position : positions) {
        const bool is_output = stage == right.place.stage && layer == right.place.layer && position == right.position;
        if ((stage == due.stage && layer == due.layer && position == right.position) || is_output) continue;
        const auto row = scene.rows.row(stage, layer, position);
        if (row.size() != right.inputs[which].size()) break;
        if (std::all_of(row.begin(), row.end(), [](double value) { return value == 0; })) continue;  // no stage in particular
        if (++tried > kMostPositions) break;
        RowCase altered = right;
        altered.inputs[which].assign(row.begin(), row.end());
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

/// The head computes the logits of a position from the final norm of another, which is made here from x_out: rows of it exist
/// only where logits are wanted.
void propose_logits_row(const Scene& scene, const Emit& emit) {
  const ModelContract& model = scene.contract.model;
  if (scene.right.op.op != OpClass::matmul || scene.right.quantised || scene.right.op.inputs[0].stage != Stage::lm_head_in)
    return;
  const Op norm{OpClass::rmsnorm, {{Stage::x_out, model.n_layers - 1}}, "output_norm.weight", {}};
  for (const int delta : {-1, 1, -2, 2}) {
    const int position = scene.right.position + delta;
    if (position < 0) continue;
    const RightCase other = right_case(scene.contract, scene.rows, norm, {Stage::final_rms, model.n_layers}, position, 0);
    if (!other.row) continue;
    RowCase altered = scene.right;
    altered.inputs[0] =
        estimate(*other.row, arithmetic_of(scene.rows.route(Stage::final_rms, model.n_layers), *other.row)).value;
    emit({"logits-row", {{"delta", std::to_string(delta)}}, std::move(altered), {}, false});
  }
}

constexpr std::array kInputs{Hypothesis{"logits-row", "the logits are those of another position", propose_logits_row},
                             Hypothesis{"input", "the op reads another stage's row, or another position's", propose_input}};

}  // namespace

std::span<const Hypothesis> input_hypotheses() { return kInputs; }

}  // namespace greta::audit
