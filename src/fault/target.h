// What faults are planted in: the model and how the arm computes.
#pragma once

#include <cstdint>

#include "model/model.h"
#include "ops/routes.h"

namespace greta {

struct FaultTarget {
  const Model& model;
  std::int32_t n_prompt = 0;  // resolves position -1
  std::int32_t chunk = 0;     // rows of a prefill call at most; 0: all at once
  std::int32_t batch = 1;     // sequences of every call
  Target target = Target::cpu;
  RouteTable routes = {};  // that the arm's plan chooses
  std::int32_t n_layers() const { return model.config.n_layers; }
};

}  // namespace greta
