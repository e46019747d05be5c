#include "core/stage.h"

#include <array>

namespace greta {
namespace {
constexpr std::array<std::string_view, kStageCount> kNames{
    "x_in",       "attn_norm",      "attn_norm_q8",  "q",           "k",           "v",          "q_norm",     "k_norm",
    "q_rope",     "k_rope",         "k_cache",       "v_cache",     "attn_scores", "attn_probs", "attn_out",   "attn_out_q8",
    "wo_out",     "attn_post_norm", "x_after_attn",  "ffn_norm",    "ffn_norm_q8", "ffn_gate",   "ffn_up",     "ffn_act",
    "ffn_act_q8", "mlp_out",        "ffn_post_norm", "x_after_mlp", "x_out",       "final_rms",  "lm_head_in", "lm_head_in_q8",
    "head_out",   "logits"};
constexpr auto kAll = [] {
  std::array<Stage, kStageCount> all{};
  for (int i = 0; i < kStageCount; ++i) all[static_cast<std::size_t>(i)] = static_cast<Stage>(i);
  return all;
}();
constexpr std::array kPostWo{Stage::ffn_norm, Stage::mlp_out,   Stage::x_after_mlp,
                             Stage::x_out,    Stage::final_rms, Stage::lm_head_in};
constexpr std::array kWitnesses{Stage::x_in, Stage::attn_out, Stage::wo_out, Stage::x_after_attn};
}  // namespace

std::string_view name(Stage stage) { return kNames[static_cast<std::size_t>(stage)]; }

std::optional<Stage> stage_from_name(std::string_view wanted) {
  for (const Stage stage : kAll)
    if (name(stage) == wanted) return stage;
  return std::nullopt;
}

std::span<const Stage> all_stages() { return kAll; }
std::span<const Stage> post_wo_stages() { return kPostWo; }
std::span<const Stage> witness_stages() { return kWitnesses; }

}  // namespace greta
