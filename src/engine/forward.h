// The forward pass of a Llama-family model: one function for prefill and decode.
#pragma once

#include <cstdint>
#include <span>

#include "core/probe.h"
#include "engine/plan.h"
#include "engine/workspace.h"
#include "model/model.h"
#include "ops/kv_view.h"
#include "ops/ops.h"

namespace greta {

/// Rows of one forward call: token r is tokens[r] of sequence rows[r].seq at rows[r].position. Rows of one sequence come in
/// ascending positions; earlier positions are in the cache or earlier in the batch.
struct Batch {
  std::span<const std::int32_t> tokens;
  std::span<const RowId> rows;
  std::span<const std::int32_t> logit_rows;  // indices of the rows whose logits are wanted, ascending
};

/// Computes logits [logit_rows.size(), vocab] in `plan.activations`; the view lives in `workspace` until the next call.
/// Writes K and V of every row to `kv`, and reads all keys, the current rows included, through it.
/// `probe` may be null. Touvron et al. 2023 (Llama 2, section 2.2) for the architecture.
TensorView forward(const Model& model, const Batch& batch, KvView& kv, const Plan& plan, Ops& ops, Probe* probe,
                   Workspace& workspace);

/// How Q and K of a layer turn.
RopeParams rope_of(const Model& model, int layer);

/// Hands KV slots to a probe as the cache serves them, one row a slot.
void tap_slots(Probe& probe, Stage stage, int layer, KvPart part, KvView& kv, std::span<const RowId> rows);

}  // namespace greta
