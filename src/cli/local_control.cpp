#include "cli/local_control.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "cli/arm_judge.h"
#include "cli/kept_rows.h"

namespace greta::cli {
namespace {

/// The layers of the stage, of what it reads and of what reads it.
std::vector<std::int32_t> layers_about(int layer, int n_layers) {
  std::vector<std::int32_t> layers;
  for (int other = std::max(0, layer - 1); other <= std::min(n_layers - 1, layer + 1); ++other) layers.push_back(other);
  return layers;
}

/// The place itself, then those whose op reads it.
std::vector<audit::Place> own_and_readers(const audit::Contract& contract, const audit::Rows& rows, audit::Place own) {
  std::vector<audit::Place> places{own};
  const int n_layers = contract.model.n_layers;
  for (int layer = own.layer; layer <= std::min(own.layer + 1, n_layers); ++layer) {
    for (const audit::Place& place : places_of(layer, n_layers)) {
      const auto op = audit::op_of(contract, rows, place);
      if (op && place != own && std::find(op->inputs.begin(), op->inputs.end(), own) != op->inputs.end())
        places.push_back(place);
    }
  }
  return places;
}

struct Element {
  double value = 0, bound = 0;
};

/// An element of a row as it is due; nullopt: the row cannot be judged.
std::optional<Element> element_of(const audit::Contract& contract, const WholeRun& run, audit::Place place, int position,
                                  std::int64_t index) {
  const KeptRows rows(run.capture, run.tensors);
  std::optional<Element> found;
  const auto on_row = [&](const audit::RowCase&, const audit::Estimate& due, std::span<const double>,
                          const audit::LocalError&) {
    const auto at = static_cast<std::size_t>(index);
    if (at < due.value.size()) found = Element{due.value[at], due.bound[at]};
  };
  audit::examine(contract, {rows, run.capture.tokens}, {&place, 1}, {&position, 1}, on_row);
  return found;
}

}  // namespace

std::optional<isolate::LocalControl> control_locally(AlignedRun& run, const RunContext& context,
                                                     const isolate::ControlSpec& spec) {
  const Model& model = context.model_b;
  const int n_layers = model.config.n_layers;
  const audit::Place own{spec.stage, once_per_token(spec.stage) ? n_layers : spec.layer};
  const std::vector<std::int32_t> layers = layers_about(own.layer, n_layers);
  const audit::ModelContract file = contract_of(model);
  const FileTensors tensors(*model.file);
  const audit::Contract contract{file, tensors};
  const auto element = element_of(contract, run.step_whole(spec.position, layers, {}), own, spec.position, spec.index);
  if (!element || !std::isfinite(element->value) || !std::isfinite(element->bound)) return std::nullopt;

  isolate::LocalControl control{spec, {}};
  control.spec.ulps.reset();
  control.spec.delta.reset();
  if (element->bound > 0) {
    control.spec.delta = std::copysign(4 * element->bound, element->value);
  } else {
    control.spec.ulps = 1;
  }
  const WholeRun perturbed = run.step_whole(spec.position, layers, {control_fault(control.spec)});
  ArmJudge judge(model, context.arm_b);
  const KeptRows rows(perturbed.capture, perturbed.tensors);
  judge.judge_places(perturbed, own_and_readers(contract, rows, own), {spec.position});
  control.guilty = judge.result().guilty;
  return control;
}

}  // namespace greta::cli
