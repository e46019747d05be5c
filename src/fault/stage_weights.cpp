#include "fault/stage_weights.h"

namespace greta {

const WeightView& norm_of(const Model& model, Stage stage, std::size_t layer) {
  if (stage == Stage::final_rms) return model.weights.final_norm;
  const LayerWeights& w = model.weights.layers[layer];
  switch (stage) {
    case Stage::attn_norm:
      return w.attn_norm;
    case Stage::q_norm:
      return w.q_norm;
    case Stage::k_norm:
      return w.k_norm;
    case Stage::attn_post_norm:
      return w.attn_post_norm;
    case Stage::ffn_post_norm:
      return w.ffn_post_norm;
    default:
      return w.ffn_norm;
  }
}

std::pair<WeightView, WeightView> matrix_of(const Model& model, Stage stage, std::size_t layer) {
  const LayerWeights& w = model.weights.layers[layer];
  switch (stage) {
    case Stage::q:
      return {w.wq, w.bq};
    case Stage::k:
      return {w.wk, w.bk};
    case Stage::v:
      return {w.wv, w.bv};
    case Stage::wo_out:
      return {w.wo, w.bo};
    case Stage::ffn_gate:
      return {w.gate, w.bgate};
    case Stage::ffn_up:
      return {w.up, w.bup};
    case Stage::mlp_out:
      return {w.down, w.bdown};
    default:
      return {model.weights.lm_head, {}};
  }
}

}  // namespace greta
