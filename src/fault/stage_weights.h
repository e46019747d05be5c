// Which weights make a stage.
#pragma once

#include <cstddef>
#include <utility>

#include "core/stage.h"
#include "model/model.h"

namespace greta {

/// The weight of the norm `stage` in a layer; empty where the model has none.
const WeightView& norm_of(const Model& model, Stage stage, std::size_t layer);
/// The matrix and the bias of the product `stage` in a layer; of stages that are no layer's the head.
std::pair<WeightView, WeightView> matrix_of(const Model& model, Stage stage, std::size_t layer);

}  // namespace greta
