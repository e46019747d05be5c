#include "ops/stage_op.h"

namespace greta {

OpKind op_of(Stage stage, bool capped) {
  switch (stage) {
    case Stage::x_in:
      return OpKind::embed;
    case Stage::attn_norm:
    case Stage::q_norm:
    case Stage::k_norm:
    case Stage::attn_post_norm:
    case Stage::ffn_norm:
    case Stage::ffn_post_norm:
    case Stage::final_rms:
      return OpKind::rmsnorm;
    case Stage::q_rope:
    case Stage::k_rope:
      return OpKind::rope;
    case Stage::k_cache:
    case Stage::v_cache:
      return OpKind::kv_write;
    case Stage::attn_scores:
      return OpKind::qk;
    case Stage::attn_probs:
      return OpKind::softmax;
    case Stage::attn_out:
      return OpKind::pv;
    case Stage::x_after_attn:
    case Stage::x_after_mlp:
      return OpKind::add;
    case Stage::ffn_act:
      return OpKind::act_mul;
    case Stage::logits:
      return capped ? OpKind::softcap : OpKind::matmul;
    default:
      return is_quantised(stage) ? OpKind::quantize : OpKind::matmul;
  }
}

}  // namespace greta
