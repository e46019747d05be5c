// Which op makes a stage.
#pragma once

#include "core/stage.h"
#include "ops/routes.h"

namespace greta {

/// `capped`: the model caps its logits, so that they come out of softcap and head_out out of the product. What only hands over
/// (x_out, lm_head_in, x_in behind the first layer) is made by no op, and what is given for it means nothing.
OpKind op_of(Stage stage, bool capped);

}  // namespace greta
