// The tap on the forward pass: one call a stage. Observing never changes a route or a bit.
#pragma once

#include "core/stage.h"
#include "core/tensor.h"

namespace greta {

class Probe {
 public:
  virtual ~Probe() = default;
  /// `output` holds the stage's rows, as written; `layer` is the number of layers for stages that exist once a token.
  /// `k_cache` and `v_cache` come with one row a slot, for every slot that this call's attention can see.
  virtual void operator()(Stage stage, int layer, const TensorView& output) = 0;
  /// Whether `k_cache` and `v_cache` are wanted of earlier positions too, as this call's attention finds them; else of the call's
  /// own rows only.
  virtual bool wants_earlier_slots() const { return true; }
  /// A stage that the model has but the chosen route does not compute separately.
  virtual void not_exposed(Stage stage, int layer) = 0;
};

}  // namespace greta
