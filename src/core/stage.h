// The stage catalogue: the named tensors of the forward pass, in the order of data (docs/architecture.md, "Stages").
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

namespace greta {

enum class Stage : std::uint8_t {
  x_in,
  attn_norm,
  attn_norm_q8,
  q,
  k,
  v,
  q_norm,
  k_norm,
  q_rope,
  k_rope,
  k_cache,
  v_cache,
  attn_scores,
  attn_probs,
  attn_out,
  attn_out_q8,
  wo_out,
  attn_post_norm,
  x_after_attn,
  ffn_norm,
  ffn_norm_q8,
  ffn_gate,
  ffn_up,
  ffn_act,
  ffn_act_q8,
  mlp_out,
  ffn_post_norm,
  x_after_mlp,
  x_out,
  final_rms,
  lm_head_in,
  lm_head_in_q8,
  head_out,
  logits,
};
inline constexpr int kStageCount = static_cast<int>(Stage::logits) + 1;

/// Layer number of the stages that exist once a token (`final_rms`, `lm_head_in`, `lm_head_in_q8`, `head_out`, `logits`): in order
/// after all layers.
/// In files it is written as the number of layers of the model.
inline constexpr bool once_per_token(Stage stage) { return stage >= Stage::final_rms; }

/// The stages `…_q8`: the stage before it as matrix products read it, where the plan converts that input: in 8-bit blocks, or
/// rounded to the 16 bits of the weights.
inline constexpr bool is_quantised(Stage stage) {
  return stage == Stage::attn_norm_q8 || stage == Stage::attn_out_q8 || stage == Stage::ffn_norm_q8 ||
         stage == Stage::ffn_act_q8 || stage == Stage::lm_head_in_q8;
}

std::string_view name(Stage stage);
/// nullopt for an unknown name.
std::optional<Stage> stage_from_name(std::string_view name);
/// All stages, in the order of data.
std::span<const Stage> all_stages();
/// The original report's "post-WO" set: ffn_norm, mlp_out, x_after_mlp, x_out, final_rms, lm_head_in.
std::span<const Stage> post_wo_stages();
/// Its witnesses: x_in, attn_out, wo_out, x_after_attn.
std::span<const Stage> witness_stages();

}  // namespace greta
