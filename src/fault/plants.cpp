#include "fault/plants.h"

namespace greta {
namespace {

namespace idle {
std::string_view at_zero(const PlantPlace& p) { return p.position == 0 ? "nothing turns at position 0" : ""; }
std::string_view own_row(const PlantPlace& p) { return p.position == 0 ? "row 0 is its own stale source" : ""; }
std::string_view first_row(const PlantPlace& p) { return p.first_of_call() ? "the first row of a call is right" : ""; }
std::string_view below_four(const PlantPlace& p) { return p.position < 4 ? "the position fits two bits" : ""; }
std::string_view only_key(const PlantPlace& p) { return p.position == 0 ? "the only key has probability 1" : ""; }
std::string_view small_share(const PlantPlace&) { return "a key of score 0 beside large scores is lost in rounding"; }
std::string_view unwritten(const PlantPlace& p) {
  return p.prefill ? "" : "the next slot is empty: a key of score 0 beside large scores is lost in rounding";
}
std::string_view masked(const PlantPlace&) { return "a window masks the first key, whose score is -infinity"; }
std::string_view from_zero(const PlantPlace& p) { return p.call_first == 0 ? "the call begins at slot 0" : ""; }
std::string_view in_window(const PlantPlace& p) { return p.position < 4 ? "both windows reach back to position 0" : ""; }
std::string_view same_first(const PlantPlace& p) { return p.position == 0 ? "all sequences begin with the same token" : ""; }
std::string_view below_256(const PlantPlace& p) { return p.position < 256 ? "the position fits eight bits" : ""; }
std::string_view one_split(const PlantPlace& p) { return p.position < 256 ? "the keys are one part" : ""; }
std::string_view no_logits(const PlantPlace& p) { return p.prefill ? "arm B computes no logits in prefill" : ""; }
}  // namespace idle

Plant with_either(Idle either, Plant plant) {
  plant.either = either;
  return plant;
}
Plant on_plan(std::string plan, Plant plant) {
  plant.plan = std::move(plan);
  return plant;
}

/// On the emulated GPU of waves of 32 lanes, which is everywhere.
Plant on_gpu(Plant plant) {
  plant.backend = "emulated";
  return plant;
}

}  // namespace

std::string Plant::text(const PlantPlace& place) const {
  std::string out = kind + (place.prefill ? "@prefill" : "@decode");
  if (!once_per_token(stage)) out += ":layer=" + std::to_string(place.layer);
  out += ":position=" + std::to_string(place.position);
  return keys.empty() ? out : out + ":" + keys;
}

std::string_view reason_to_be_idle(const Plant& plant, const PlantPlace& place, bool was_refused) {
  if (const std::string_view why = plant.idle == nullptr ? "" : plant.idle(place); !why.empty()) return why;
  return plant.either == nullptr || !was_refused ? "" : plant.either(place);
}

std::vector<Plant> all_plants() {
  using S = Stage;
  const auto relative_slot = [](const PlantPlace& p) { return p.position - p.call_first; };
  return {
      {"stale-input", "stage=ffn_norm:from=x_after_attn:row=0", S::ffn_norm, "base", idle::own_row},
      {"stale-input", "stage=wo_out:from=attn_out:row=0", S::wo_out, "base", idle::own_row},
      {"stale-input", "stage=x_out:from=x_after_attn:row=0", S::x_out},
      {"perturb", "stage=attn_norm:index=3", S::attn_norm},
      {"perturb", "stage=q:ulp=2", S::q},
      {"perturb", "stage=k_cache:index=1", S::k_cache},
      {"perturb", "stage=v_cache:index=2", S::v_cache},
      with_either(idle::masked, {"perturb", "stage=attn_scores:rel=0.01", S::attn_scores}),
      {"perturb", "stage=attn_probs:add=0.001", S::attn_probs},
      {"perturb", "stage=mlp_out:index=60", S::mlp_out},
      {"perturb", "stage=x_in", S::x_in},
      {"perturb", "stage=x_after_mlp", S::x_after_mlp},
      {"nan", "stage=v", S::v},
      {"nan", "stage=ffn_act:index=7", S::ffn_act},
      {"uninitialised-tail", "stage=attn_norm:elements=4", S::attn_norm},
      {"uninitialised-tail", "stage=ffn_act", S::ffn_act},
      {"layernorm-for-rmsnorm", "", S::attn_norm},
      {"layernorm-for-rmsnorm", "stage=ffn_norm", S::ffn_norm},
      {"rmsnorm-weight", "", S::attn_norm},
      {"rmsnorm-weight", "stage=ffn_norm:delta=-1", S::ffn_norm},
      {"rmsnorm-row-stride", "stage=ffn_norm", S::ffn_norm, "base", idle::first_row},
      {"rmsnorm-row-stride", "delta=16", S::attn_norm, "base", idle::first_row},
      {"rmsnorm-epsilon", "eps=0.01", S::attn_norm},
      {"rmsnorm-epsilon", "stage=ffn_norm:eps=0.001", S::ffn_norm},
      {"rope-pairing", "", S::q_rope, "base", idle::at_zero},
      {"rope-pairing", "stage=k_rope", S::k_rope, "base", idle::at_zero},
      {"rope-theta", "", S::q_rope, "base", idle::at_zero},
      {"rope-theta", "stage=k_rope:theta=50000", S::k_rope, "base", idle::at_zero},
      {"rope-factors-missing", "", S::q_rope, "factors", idle::at_zero},
      {"rope-factors-missing", "stage=k_rope", S::k_rope, "factors", idle::at_zero},
      {"rope-twice", "", S::q_rope, "base", idle::at_zero},
      {"rope-twice", "stage=k_rope", S::k_rope, "base", idle::at_zero},
      {"rope-position", "delta=1", S::q_rope},
      {"rope-position", "stage=k_rope:delta=-3", S::k_rope},
      {"position-narrow", "bits=2", S::q_rope, "base", idle::below_four},
      {"position-narrow", "bits=2:stage=k_rope", S::k_rope, "base", idle::below_four},
      {"position-broadcast", "", S::q_rope, "base", idle::first_row},
      {"position-broadcast", "stage=k_rope", S::k_rope, "base", idle::first_row},
      {"weight-transposed", "stage=q", S::q},
      {"weight-transposed", "stage=k", S::k},
      {"weight-transposed", "stage=v", S::v},
      {"weight-transposed", "stage=wo_out", S::wo_out},
      {"weight-transposed", "stage=ffn_gate", S::ffn_gate},
      {"weight-transposed", "stage=ffn_up", S::ffn_up},
      {"weight-transposed", "stage=mlp_out", S::mlp_out},
      {"row-shifted", "", S::q},
      {"row-shifted", "stage=mlp_out:delta=-2", S::mlp_out},
      {"qk-permuted", "", S::q},
      {"qk-permuted", "stage=k", S::k},
      {"qk-permuted", "stage=k:heads=2", S::k},
      {"tail-dropped", "", S::q},
      {"tail-dropped", "stage=wo_out:block=7", S::wo_out},
      {"tail-dropped", "stage=mlp_out:block=8", S::mlp_out, "q8_0"},
      {"block-scale", "", S::q, "q8_0"},
      {"block-scale", "stage=mlp_out:as=one:block=2", S::mlp_out, "q8_0"},
      {"block-scale", "stage=mlp_out:block=1", S::mlp_out, "q6_k"},
      {"block-min", "", S::q, "q4_1"},
      {"block-min", "stage=mlp_out:block=2", S::mlp_out, "q4_k"},
      on_plan("q8", {"inverse-scale-f16", "bits=4", S::attn_norm_q8, "q8_0"}),
      on_plan("q8", {"inverse-scale-f16", "stage=ffn_act_q8:bits=5", S::ffn_act_q8, "q8_0"}),
      on_plan("q8", {"perturb", "stage=ffn_norm_q8:index=40", S::ffn_norm_q8, "q8_0"}),
      on_plan("q8", {"stale-input", "stage=attn_out_q8:from=attn_out:row=0", S::attn_out_q8, "q8_0", idle::own_row}),
      on_plan("q8", {"tail-dropped", "stage=mlp_out", S::mlp_out, "q8_0"}),
      on_plan("q8", {"block-scale", "stage=k", S::k, "q8_0"}),
      on_plan("q8", {"row-shifted", "stage=wo_out", S::wo_out, "q8_0"}),
      on_plan("q8", {"logits-row", "", S::logits, "q8_0", idle::no_logits}),
      {"f16-accumulate", "", S::q},
      {"f16-accumulate", "stage=attn_scores", S::attn_scores},
      {"f16-accumulate", "stage=attn_out", S::attn_out},
      {"f16-accumulate", "stage=mlp_out", S::mlp_out},
      {"softmax-scale", "", S::attn_scores},
      {"softmax-scale", "factor=twice", S::attn_scores},
      {"attention-length", "", S::attn_scores},
      {"mask-stride", "", S::attn_scores, "base", idle::first_row},
      {"gqa-head-map", "", S::attn_scores},
      {"gqa-head-map", "stage=attn_out:map=next", S::attn_out},
      with_either(idle::only_key, {"softmax-no-max", "", S::attn_probs}),  // unless the exponential overflows
      {"softmax-no-max", "type=f32", S::attn_probs, "base", idle::only_key},
      {"nan-padding", "", S::attn_probs},
      with_either(idle::unwritten, {"mask-off-by-one", "", S::attn_probs}),
      with_either(idle::small_share, {"merge-empty-chunk", "splits=64", S::attn_out}),
      {"kv-slot-shift", "delta=1", S::k_cache},
      {"kv-slot-shift", "stage=v_cache:delta=1", S::v_cache},
      {"kv-slot-shift", "delta=-1", S::k_cache, "base", nullptr, 0,
       [](const PlantPlace& p) { return p.position == 0 ? 0 : p.position - 1; }},
      {"kv-wrong-layer", "stage=k_cache", S::k_cache},
      {"kv-wrong-layer", "stage=v_cache:delta=-1", S::v_cache},
      {"kv-wrong-layer", "stage=attn_scores", S::attn_scores},
      {"kv-wrong-layer", "stage=attn_out:delta=-1", S::attn_out},
      {"kv-stale", "", S::k_cache},
      {"kv-stale", "stage=v_cache", S::v_cache},
      {"chunk-slot-map", "", S::k_cache, "base", idle::from_zero, 4, relative_slot},
      {"chunk-slot-map", "stage=v_cache", S::v_cache, "base", idle::from_zero, 4, relative_slot},
      {"residual-missing", "", S::x_after_attn},
      {"residual-missing", "stage=x_after_mlp:lost=branch", S::x_after_mlp},
      {"residual-twice", "", S::x_after_attn},
      {"residual-twice", "stage=x_after_mlp", S::x_after_mlp},
      {"residual-source", "", S::x_after_attn},
      {"residual-source", "stage=x_after_mlp:from=attn_norm", S::x_after_mlp},
      {"embedding-row", "", S::x_in},
      {"head-untied-ignored", "", S::logits, "untied", idle::no_logits},
      {"logits-row", "", S::logits, "base", idle::no_logits},
      {"rmsnorm-epsilon", "stage=final_rms:eps=0.01", S::final_rms, "base", idle::no_logits},
      {"weight-transposed", "stage=logits", S::logits, "base", idle::no_logits},
      {"bias-missing", "", S::q, "qwen2"},
      {"bias-missing", "stage=k", S::k, "qwen2"},
      {"bias-missing", "stage=v", S::v, "qwen2"},
      {"layernorm-for-rmsnorm", "stage=q_norm", S::q_norm, "qwen3"},
      {"rmsnorm-weight", "stage=k_norm", S::k_norm, "qwen3"},
      {"rmsnorm-epsilon", "stage=attn_post_norm:eps=0.01", S::attn_post_norm, "gemma2"},
      {"embedding-scale", "", S::x_in, "gemma2"},
      {"softcap-missing", "", S::attn_scores, "gemma2"},
      {"softcap-missing", "stage=logits", S::logits, "gemma2", idle::no_logits},
      {"logits-row", "stage=head_out", S::head_out, "gemma2", idle::no_logits},
      {"window-off-by-one", "", S::attn_scores, "window", idle::in_window},
      {"sequence-crosstalk", "", S::attn_scores, "base", idle::same_first, 0, nullptr, 2},
      {"sequence-crosstalk", "stage=attn_out", S::attn_out, "base", idle::same_first, 0, nullptr, 2},
      {"kv-shift-missing", "", S::k_cache, "base", nullptr, 0, nullptr, 1, true},
      {"kv-shift-missing", "stage=v_cache:how=move", S::v_cache, "base", nullptr, 0, nullptr, 1, true},
      on_gpu({"gpu-missing-barrier", "stage=ffn_norm", S::ffn_norm}),
      on_gpu({"gpu-missing-barrier", "", S::attn_norm}),
      on_gpu(on_plan("invariant", {"gpu-missing-barrier", "stage=ffn_up", S::ffn_up, "f16"})),
      on_gpu({"gpu-f16-accumulate", "stage=mlp_out", S::mlp_out}),
      on_gpu({"gpu-f16-accumulate", "", S::q}),
      on_gpu(on_plan("q8", {"gpu-f16-accumulate", "stage=k", S::k, "q8_0"})),
      on_gpu({"gpu-wave-size", "", S::attn_norm}),
      on_gpu({"gpu-wave-size", "stage=attn_probs", S::attn_probs}),
      on_gpu(on_plan("q8", {"gpu-wave-size", "stage=mlp_out", S::mlp_out, "q8_0"})),
      on_gpu({"gpu-padding", "stage=wo_out", S::wo_out}),
      on_gpu(on_plan("invariant", {"gpu-padding", "", S::q, "f16"})),
      on_gpu(on_plan("invariant", {"gpu-merge-stride", "stage=attn_out", S::attn_out, "f16", idle::one_split})),
      on_gpu({"gpu-position-narrow", "", S::q_rope, "base", idle::below_256}),
      on_gpu({"gpu-position-narrow", "stage=attn_scores", S::attn_scores, "base", idle::below_256}),
      on_gpu({"gpu-staging-reused", "stage=ffn_norm", S::ffn_norm}),
      on_gpu({"gpu-staging-reused", "stage=x_after_attn", S::x_after_attn}),
      on_gpu({"gpu-wrong-stream", "stage=mlp_out", S::mlp_out}),
      on_gpu({"gpu-wrong-stream", "stage=attn_probs", S::attn_probs}),
  };
}

std::vector<PlantPlace> all_places(const Plant& plant, int n, const std::vector<int>& layers, int n_layers) {
  std::vector<PlantPlace> places;
  if (plant.shift) {
    for (const int position : {1, 2, 3})
      for (const int layer : layers) places.push_back({true, layer, position, 0, n_layers});
    return places;
  }
  for (const bool prefill : {false, true})
    for (const int position : prefill ? std::vector<int>{0, (n - 1) / 2, n - 2} : std::vector<int>{n - 1, n, n + 1})
      for (const int layer : layers) {
        if (layer != layers.front() && (plant.fixed_layer() || once_per_token(plant.stage))) continue;
        const int call_first = !prefill ? position : plant.chunk > 0 ? position / plant.chunk * plant.chunk : 0;
        places.push_back({prefill, layer, position, call_first, n_layers});
      }
  return places;
}

}  // namespace greta
