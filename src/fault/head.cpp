// The two ends: the embedding's row, the head's weights, the logits' row.
#include <array>

#include "fault/catalogue.h"

namespace greta {
namespace {

constexpr std::array kInput{Stage::x_in};
constexpr std::array kLogits{Stage::head_out, Stage::logits};  // head_out: where logits are capped
constexpr std::array kRowKeys{
    FaultKey{.name = "delta", .fallback = "1", .doc = "token ids away, round the end", .min = -1e9, .max = 1e9}};

void plant_row(const FaultSpec& fault, WrongCall& call) {
  if (call.op != OpKind::embed) return;  // x_in of later layers is handed over
  auto& tokens = call.arena.numbers.emplace_back(call.tokens.begin(), call.tokens.end());
  const std::int64_t n = call.weight.n_rows;
  for (std::int32_t& token : tokens) token = static_cast<std::int32_t>(((token + fault.integer("delta")) % n + n) % n);
  call.tokens = tokens;
}

std::string lacks_first_layer(const FaultSpec& fault, const FaultTarget&) {
  return fault.layer.value_or(0) == 0 ? "" : "tokens are embedded in layer 0 alone";
}

void plant_tied(const FaultSpec&, WrongCall& call) {
  if (call.op == OpKind::matmul) call.weight = call.target.model.weights.embedding;
}

void plant_no_scale(const FaultSpec&, WrongCall& call) { call.scale = 1; }

std::string lacks_scale(const FaultSpec& fault, const FaultTarget& target) {
  if (target.model.config.embedding_scale == 1.0) return "the model does not scale its embeddings";
  return lacks_first_layer(fault, target);
}

std::string lacks_head(const FaultSpec&, const FaultTarget& target) {
  return target.model.weights.tied_head ? "the model's head is its embedding table" : "";
}

// logits-row: the head reads the normed row of another position.

constexpr std::array kOffsetKeys{
    FaultKey{.name = "delta", .fallback = "-1", .doc = "positions away; -1: the row before", .min = -1e9, .max = -1}};

std::optional<KeptKey> keep_last(const FaultSpec&, const FaultTarget& target, const OpSite& site, std::size_t r) {
  if (site.stage != Stage::x_out || site.layer != target.n_layers() - 1) return std::nullopt;
  return KeptKey{site.stage, site.layer, site.rows[r].seq, site.rows[r].position};
}

void plant_logits_row(const FaultSpec& fault, WrongCall& call) {
  if (call.op != OpKind::matmul) return;
  const Model& model = call.target.model;
  std::vector<const KeptRow*> rows;
  for (std::int64_t r = 0; r < call.n_rows(); ++r) {
    const RowId id = call.row_id(r);
    rows.push_back(call.kept(
        {Stage::x_out, call.target.n_layers() - 1, id.seq, static_cast<std::int32_t>(id.position + fault.integer("delta"))}));
    if (rows.back() == nullptr) return;  // before the first row: nothing is wrong
  }
  const TensorView other = call.serve(call.x, rows);
  const bool quantised = call.x.dtype != other.dtype;  // in blocks, or rounded
  const TensorView normed = copy_of(quantised ? other : call.x, call.arena);
  call.kernel.rmsnorm({Stage::final_rms, call.site.layer, call.site.rows}, other, model.weights.final_norm,
                      model.config.rms_eps, normed);
  call.x = quantised ? copy_of(call.x, call.arena) : normed;
  if (quantised) call.kernel.quantize({Stage::lm_head_in_q8, call.site.layer, call.site.rows}, normed, call.x);
  call.x.rows = other.rows;  // what is read is the row of that position
}

const auto kRows = std::to_array<FaultInfo>({
    {.name = "embedding-row",
     .family = "head",
     .doc = "the embedding of another token is read",
     .found_at = "x_in of layer 0",
     .needs = "layer 0, or no layer named",
     .stands_for = "an offset into the embedding table that is wrong by a row",
     .stages = kInput,
     .keys = kRowKeys,
     .plant = plant_row,
     .lacks = lacks_first_layer},
    {.name = "embedding-scale",
     .family = "head",
     .doc = "the embeddings are not scaled",
     .found_at = "x_in of layer 0",
     .needs = "a model that scales them (gemma2, gemma3)",
     .stands_for = "embedding scale skipped (llama.cpp#24357)",
     .stages = kInput,
     .plant = plant_no_scale,
     .lacks = lacks_scale},
    {.name = "head-untied-ignored",
     .family = "head",
     .doc = "the logits are computed with the embedding table instead of the model's own head",
     .found_at = "logits (head_out where logits are capped)",
     .needs = "a model with a head of its own (output.weight)",
     .stands_for = "untied lm_head ignored, embedding used instead (pegainfer#544)",
     .stages = kLogits,
     .plant = plant_tied,
     .lacks = lacks_head},
    {.name = "logits-row",
     .family = "head",
     .doc = "the logits of a position are computed from the final norm of an earlier position",
     .found_at = "logits (head_out where logits are capped)",
     .idle = "at the first position, which has none before it",
     .stands_for = "logits written or read at the wrong row (gretacore B3.11)",
     .stages = kLogits,
     .keys = kOffsetKeys,
     .plant = plant_logits_row,
     .keep = keep_last,
     .keep_across_steps = true},
});

}  // namespace

std::span<const FaultInfo> head_faults() { return kRows; }

}  // namespace greta
