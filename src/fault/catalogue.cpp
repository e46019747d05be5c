// The kinds of fault and the presets: one row each, printed by `greta faults`.
#include <array>

#include "fault/spec.h"

namespace greta {
namespace {

constexpr std::array kWithInput{
    Stage::attn_norm,  Stage::q,           Stage::k,        Stage::v,      Stage::q_rope,       Stage::k_rope,   Stage::k_cache,
    Stage::v_cache,    Stage::attn_scores, Stage::attn_probs, Stage::attn_out, Stage::wo_out,   Stage::x_after_attn,
    Stage::ffn_norm,   Stage::ffn_gate,    Stage::ffn_up,   Stage::ffn_act, Stage::mlp_out,      Stage::x_after_mlp,
    Stage::x_in,       Stage::x_out,       Stage::final_rms, Stage::lm_head_in, Stage::logits,
    Stage::q_norm,     Stage::k_norm,      Stage::attn_post_norm, Stage::ffn_post_norm, Stage::head_out};
constexpr std::array kNorms{Stage::attn_norm, Stage::q_norm,        Stage::k_norm,   Stage::attn_post_norm,
                            Stage::ffn_norm,  Stage::ffn_post_norm, Stage::final_rms};
constexpr std::array kAnywhere{
    Stage::x_in,     Stage::attn_norm,    Stage::q,        Stage::k,        Stage::v,        Stage::q_rope,  Stage::k_rope,
    Stage::k_cache,  Stage::v_cache,      Stage::attn_scores, Stage::attn_probs, Stage::attn_out, Stage::wo_out,
    Stage::x_after_attn, Stage::ffn_norm, Stage::ffn_gate, Stage::ffn_up,   Stage::ffn_act,  Stage::mlp_out, Stage::x_after_mlp,
    Stage::x_out,    Stage::final_rms,    Stage::lm_head_in, Stage::logits,
    Stage::q_norm,   Stage::k_norm,       Stage::attn_post_norm, Stage::ffn_post_norm, Stage::head_out};
constexpr std::array kMatmuls{Stage::q,      Stage::k,       Stage::v,      Stage::wo_out, Stage::ffn_gate,
                              Stage::ffn_up, Stage::mlp_out, Stage::head_out, Stage::logits};
constexpr std::array kRopes{Stage::q_rope, Stage::k_rope};
constexpr std::array kSlots{Stage::k_cache, Stage::v_cache};

const std::array<FaultInfo, 7> kCatalogue{{
    {FaultKind::stale_input, "stale-input",
     "the op that makes STAGE reads the row that stage FROM of the same layer wrote at position ROW, instead of its own input "
     "(of the two inputs of a residual add: the branch; of ffn_act: the gate)",
     "from=STAGE (required), row=POSITION (default 0)", "STAGE, at every chosen position other than ROW",
     "RMSNorm reads another stage's buffer, or the right buffer at another token's offset", kWithInput, true},
    {FaultKind::rmsnorm_epsilon, "rmsnorm-epsilon", "an RMSNorm computes with another epsilon than the model's",
     "eps=VALUE (default 1e-6)", "the norm's own stage", "epsilon hard-coded in one kernel", kNorms, false},
    {FaultKind::perturb, "perturb", "one element of STAGE is moved (by ulp: away from zero) after it was computed",
     "ulp=N of the stored type (default 1) or rel=FRACTION or add=VALUE; index=ELEMENT (default 0)", "STAGE",
     "any small wrong number: what a comparison must be able to see", kAnywhere, true},
    {FaultKind::nan, "nan", "one element of STAGE becomes NaN", "index=ELEMENT (default 0)", "STAGE",
     "NaN from padding or from uninitialised memory", kAnywhere, true},
    {FaultKind::weight_transposed, "weight-transposed",
     "the weight matrix of STAGE is read column by column instead of row by row (its shape stays)", "none",
     "STAGE (omitted: all matrices, found at the first)",
     "a weight matrix read transposed: Wq, Wk, Wv, Wo row for column", kMatmuls, false},
    {FaultKind::rope_position, "rope-position", "RoPE turns by a wrong position", "delta=N (default 1)",
     "q_rope or k_rope (the first of those chosen)", "position off by one in decode", kRopes, false},
    {FaultKind::kv_slot_shift, "kv-slot-shift", "K or V is written DELTA slots beside its own (before slot 0: nowhere)",
     "delta=N (default 1)", "k_cache or v_cache (the first of those chosen), at the slot that is then wrong",
     "decode KV written at position L+1", kSlots, false},
}};

constexpr std::array<FaultPreset, 1> kPresets{{
    {"b3_41", "stale-input@decode:layer=0:stage=ffn_norm:from=x_after_attn:row=0",
     "decode's first ffn_norm reads the prefill buffer at offset 0, the BOS row of every prompt: the collapse of B3.41"},
}};

}  // namespace

std::span<const FaultInfo> fault_catalogue() { return kCatalogue; }
const FaultInfo& info(FaultKind kind) { return kCatalogue[static_cast<std::size_t>(kind)]; }
std::span<const FaultPreset> fault_presets() { return kPresets; }

}  // namespace greta
