#include "engine/forward.h"

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <map>
#include <optional>
#include <vector>

namespace greta {
namespace {

/// What one call needs everywhere. Shapes beside tensors use n = rows of the batch, d = d_model, hd = head_dim.
class Pass {
 public:
  Pass(const Model& model, const Batch& batch, KvView& kv, const Plan& plan, Ops& ops, Probe* probe, Workspace& ws)
      : model_(model),
        c_(model.config),
        w_(model.weights),
        batch_(batch),
        kv_(kv),
        plan_(plan),
        ops_(ops),
        probe_(probe),
        ws_(ws) {
    ws_.positions.clear();
    for (const RowId& row : batch.rows) ws_.positions.push_back(row.position);
    lay_out_scores();
  }

  TensorView run() {
    TensorView x = next(ws_.x, Stage::x_in, 0, c_.d_model);  // [n, d]
    ops_.embed(at(Stage::x_in, 0), w_.embedding, batch_.tokens, c_.embedding_scale, x);
    for (int layer = 0; layer < c_.n_layers; ++layer) {
      if (layer > 0) x = ops_.handoff(at(Stage::x_in, layer), x);
      tap(Stage::x_in, layer, x);
      x = attention_block(layer, x);
      x = mlp_block(layer, x);
      x = ops_.handoff(at(Stage::x_out, layer), x);
      tap(Stage::x_out, layer, x);
    }
    return head(x);
  }

 private:
  TensorView attention_block(int l, const TensorView& x) {
    const LayerWeights& w = w_.layers[static_cast<std::size_t>(l)];
    const RopeParams turn = rope_of(model_, l);
    const AttentionParams attention = attention_params(l);
    const std::int64_t q_dim = std::int64_t{c_.n_heads} * c_.head_dim, kv_dim = std::int64_t{c_.n_kv_heads} * c_.head_dim;

    const TensorView h = norm(ws_.attn_norm, Stage::attn_norm, l, x, w.attn_norm);  // [n, d]
    const TensorView hq = quantised(ws_.attn_norm_q8, Stage::attn_norm_q8, l, h, {w.wq, w.wk, w.wv});
    const TensorView q = project(ws_.q, Stage::q, l, hq, w.wq, w.bq, q_dim);   // [n, n_heads*hd]
    const TensorView k = project(ws_.k, Stage::k, l, hq, w.wk, w.bk, kv_dim);  // [n, n_kv_heads*hd]
    const TensorView v = project(ws_.v, Stage::v, l, hq, w.wv, w.bv, kv_dim);  // [n, n_kv_heads*hd]

    const TensorView qn = norm(ws_.q_norm, Stage::q_norm, l, q, w.q_norm);  // every head by itself
    const TensorView kn = norm(ws_.k_norm, Stage::k_norm, l, k, w.k_norm);

    const TensorView qr = next(ws_.q_rope, Stage::q_rope, l, q_dim);
    ops_.rope(at(Stage::q_rope, l), qn, turn, ws_.positions, qr);
    tap(Stage::q_rope, l, qr);
    const TensorView kr = next(ws_.k_rope, Stage::k_rope, l, kv_dim);
    ops_.rope(at(Stage::k_rope, l), kn, turn, ws_.positions, kr);
    tap(Stage::k_rope, l, kr);

    ops_.kv_write(at(Stage::k_cache, l), kr, KvPart::k, kv_);
    tap_cache(Stage::k_cache, l, KvPart::k);
    ops_.kv_write(at(Stage::v_cache, l), v, KvPart::v, kv_);
    tap_cache(Stage::v_cache, l, KvPart::v);

    const TensorView scores = next_scores(ws_.scores, Stage::attn_scores, l);  // row: [n_heads, pos+1]
    ops_.qk(at(Stage::attn_scores, l), qr, attention, kv_, scores);
    tap(Stage::attn_scores, l, scores);
    const TensorView probs = next_scores(ws_.probs, Stage::attn_probs, l);  // row: [n_heads, pos+1]
    ops_.softmax(at(Stage::attn_probs, l), scores, attention, probs);
    tap(Stage::attn_probs, l, probs);
    const TensorView out = next(ws_.attn_out, Stage::attn_out, l, q_dim);  // [n, n_heads*hd]
    ops_.pv(at(Stage::attn_out, l), probs, attention, kv_, out);
    tap(Stage::attn_out, l, out);

    const TensorView oq = quantised(ws_.attn_out_q8, Stage::attn_out_q8, l, out, {w.wo});
    const TensorView wo = project(ws_.wo_out, Stage::wo_out, l, oq, w.wo, w.bo, c_.d_model);  // [n, d]
    const TensorView branch = norm(ws_.attn_post_norm, Stage::attn_post_norm, l, wo, w.attn_post_norm);
    const TensorView sum = next(ws_.x_after_attn, Stage::x_after_attn, l, c_.d_model);
    ops_.add(at(Stage::x_after_attn, l), x, branch, sum);
    tap(Stage::x_after_attn, l, sum);
    return sum;
  }

  TensorView mlp_block(int l, const TensorView& x) {
    const LayerWeights& w = w_.layers[static_cast<std::size_t>(l)];
    const TensorView h = norm(ws_.ffn_norm, Stage::ffn_norm, l, x, w.ffn_norm);  // [n, d]
    const TensorView hq = quantised(ws_.ffn_norm_q8, Stage::ffn_norm_q8, l, h, {w.gate, w.up});
    const TensorView gate = project(ws_.gate, Stage::ffn_gate, l, hq, w.gate, w.bgate, c_.d_ff);  // [n, d_ff]
    const TensorView up = project(ws_.up, Stage::ffn_up, l, hq, w.up, w.bup, c_.d_ff);            // [n, d_ff]
    const TensorView act = next(ws_.act, Stage::ffn_act, l, c_.d_ff);
    ops_.act_mul(at(Stage::ffn_act, l), c_.activation, gate, up, act);
    tap(Stage::ffn_act, l, act);
    const TensorView aq = quantised(ws_.act_q8, Stage::ffn_act_q8, l, act, {w.down});
    const TensorView out = project(ws_.mlp_out, Stage::mlp_out, l, aq, w.down, w.bdown, c_.d_model);  // [n, d]
    const TensorView branch = norm(ws_.ffn_post_norm, Stage::ffn_post_norm, l, out, w.ffn_post_norm);
    const TensorView sum = next(ws_.x, Stage::x_after_mlp, l, c_.d_model);
    ops_.add(at(Stage::x_after_mlp, l), x, branch, sum);
    tap(Stage::x_after_mlp, l, sum);
    return sum;
  }

  /// Final norm and head, for the wanted rows only: [m, vocab].
  TensorView head(const TensorView& x) {
    const TensorView chosen = choose_logit_rows(x);
    const int l = c_.n_layers;
    const auto site = [&](Stage stage) { return OpSite{stage, l, chosen.rows}; };
    if (chosen.n_rows == 0) return chosen;
    const TensorView h = ws_.final_rms.next(Stage::final_rms, l, plan_.activations, chosen.rows, c_.d_model);  // [m, d]
    ops_.rmsnorm(site(Stage::final_rms), chosen, w_.final_norm, c_.rms_eps, h);
    tap(Stage::final_rms, l, h);
    const TensorView in = ops_.handoff(site(Stage::lm_head_in), h);
    tap(Stage::lm_head_in, l, in);
    const TensorView iq = quantised(ws_.lm_head_in_q8, Stage::lm_head_in_q8, l, in, {w_.lm_head});
    const TensorView logits = ws_.logits.next(Stage::logits, l, plan_.activations, chosen.rows, c_.vocab_size);
    if (c_.final_softcap > 0) {
      const TensorView raw = ws_.head_out.next(Stage::head_out, l, plan_.activations, chosen.rows, c_.vocab_size);
      ops_.matmul(site(Stage::head_out), iq, w_.lm_head, WeightView{}, raw);
      tap(Stage::head_out, l, raw);
      ops_.softcap(site(Stage::logits), raw, c_.final_softcap, logits);
    } else {
      ops_.matmul(site(Stage::logits), iq, w_.lm_head, WeightView{}, logits);
    }
    tap(Stage::logits, l, logits);
    return logits;
  }

  TensorView project(Buffer& buffer, Stage stage, int layer, const TensorView& x, const WeightView& weight,
                     const WeightView& bias, std::int64_t n_out) {
    const TensorView out = next(buffer, stage, layer, n_out);
    ops_.matmul(at(stage, layer), x, weight, bias, out);
    tap(stage, layer, out);
    return out;
  }

  /// What the matrices `readers` read of x: x in 8-bit blocks or rounded to their 16 bits where the plan says so; else x.
  TensorView quantised(Buffer& buffer, Stage stage, int layer, const TensorView& x, std::initializer_list<WeightView> readers) {
    const std::optional<DType> type = plan_.input_type(readers);
    if (!type) return x;
    const TensorView codes = buffer.next(stage, layer, *type, x.rows, x.n_cols);
    ops_.quantize({stage, layer, x.rows}, x, codes);
    tap(stage, layer, codes);
    return codes;
  }

  /// `x` itself where the model has no such norm.
  TensorView norm(Buffer& buffer, Stage stage, int layer, const TensorView& x, const WeightView& weight) {
    if (!weight) return x;
    const TensorView out = next(buffer, stage, layer, x.n_cols);
    ops_.rmsnorm(at(stage, layer), x, weight, c_.rms_eps, out);
    tap(stage, layer, out);
    return out;
  }

  AttentionParams attention_params(int layer) const {
    return {.n_heads = c_.n_heads,
            .n_kv_heads = c_.n_kv_heads,
            .head_dim = c_.head_dim,
            .scale = c_.attention_scale,
            .softcap = c_.attention_softcap,
            .window = c_.layer_attention(layer).window};
  }

  OpSite at(Stage stage, int layer) const { return {stage, layer, batch_.rows}; }
  TensorView next(Buffer& buffer, Stage stage, int layer, std::int64_t n_cols) const {
    return buffer.next(stage, layer, plan_.activations, batch_.rows, n_cols);
  }
  TensorView next_scores(Buffer& buffer, Stage stage, int layer) const {
    return buffer.next_ragged(stage, layer, plan_.activations, batch_.rows, ws_.score_extents, score_bytes_);
  }
  void tap(Stage stage, int layer, const TensorView& output) const {
    if (probe_ != nullptr) (*probe_)(stage, layer, output);
  }

  void lay_out_scores() {
    ws_.score_extents.clear();
    for (const RowId& row : batch_.rows) {
      const std::int64_t cols = std::int64_t{c_.n_heads} * (row.position + 1);
      ws_.score_extents.push_back({static_cast<std::int64_t>(score_bytes_), cols});
      score_bytes_ += (static_cast<std::size_t>(row_bytes(plan_.activations, cols)) + 63) / 64 * 64;
    }
  }

  TensorView choose_logit_rows(const TensorView& x) const {
    ws_.logit_rows.clear();
    ws_.logit_extents.clear();
    for (const std::int32_t r : batch_.logit_rows) {
      ws_.logit_rows.push_back(batch_.rows[static_cast<std::size_t>(r)]);
      ws_.logit_extents.push_back({x.row(r) - x.data, x.cols(r)});
    }
    TensorView chosen = x;
    chosen.n_rows = static_cast<std::int64_t>(ws_.logit_rows.size());
    chosen.extents = ws_.logit_extents;
    chosen.rows = ws_.logit_rows;
    return chosen;
  }

  /// Every slot that this call's attention can see, as the cache serves it: positions 0..last of each sequence, or those of the
  /// call's rows.
  void tap_cache(Stage stage, int layer, KvPart part) const {
    if (probe_ == nullptr) return;
    if (!probe_->wants_earlier_slots()) return tap_slots(*probe_, stage, layer, part, kv_, batch_.rows);
    std::map<std::int32_t, std::int32_t> last;  // sequence -> position
    for (const RowId& row : batch_.rows) last[row.seq] = std::max(last[row.seq], row.position);
    std::vector<RowId> rows;
    for (const auto& [seq, position] : last)
      for (std::int32_t p = 0; p <= position; ++p) rows.push_back({seq, p});
    tap_slots(*probe_, stage, layer, part, kv_, rows);
  }

  const Model& model_;
  const ModelConfig& c_;
  const ModelWeights& w_;
  const Batch& batch_;
  KvView& kv_;
  const Plan& plan_;
  Ops& ops_;
  Probe* probe_;
  Workspace& ws_;
  std::size_t score_bytes_ = 0;
};

}  // namespace

RopeParams rope_of(const Model& model, int layer) {
  const ModelConfig& c = model.config;
  const LayerAttention own = c.layer_attention(layer);
  return {.theta = own.rope_theta,
          .head_dim = c.head_dim,
          .n_rot = c.rope_dim,
          .interleaved = c.rope_interleaved,
          .linear_scale = own.rope_linear_scale,
          .freq_factors = model.weights.rope_freq_factors};
}

void tap_slots(Probe& probe, Stage stage, int layer, KvPart part, KvView& kv, std::span<const RowId> rows) {
  if (rows.empty()) return;
  std::vector<RowExtent> extents;
  const std::byte* base = kv.read_slot(part, layer, rows.front());
  for (const RowId& row : rows) extents.push_back({kv.read_slot(part, layer, row) - base, kv.width()});
  TensorView slots;
  slots.data = const_cast<std::byte*>(base);  // a view for reading: probes do not write
  slots.dtype = kv.dtype();
  slots.n_rows = static_cast<std::int64_t>(rows.size());
  slots.n_cols = kv.width();
  slots.extents = extents;
  slots.rows = rows;
  slots.origin.stage = stage;
  slots.origin.layer = layer;
  probe(stage, layer, slots);
}

TensorView forward(const Model& model, const Batch& batch, KvView& kv, const Plan& plan, Ops& ops, Probe* probe,
                   Workspace& workspace) {
  return Pass(model, batch, kv, plan, ops, probe, workspace).run();
}

}  // namespace greta
