#include "recording/recording_ops.h"

namespace greta {

void RecordingOps::begin_step(const StepInfo& step, const RouteTable& routes) {
  if (recorder_ == nullptr) return inner_.begin_step(step, routes);
  recorder_->begin_step(step, routes);
  inner_.begin_step(step, routes);
}

void RecordingOps::embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
                         TensorView out) {
  if (recorder_ == nullptr) return inner_.embed(site, table, tokens, scale, out);
  recorder_->note_route(site, OpKind::embed);
  recorder_->note_weight(site, "table", table);
  recorder_->note_scalar(site, "scale", scale);
  for (std::size_t r = 0; r < tokens.size(); ++r)
    recorder_->note_scalar({site.stage, site.layer, site.rows.subspan(r, 1)}, "token", tokens[r]);
  inner_.embed(site, table, tokens, scale, out);
}

void RecordingOps::rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) {
  if (recorder_ == nullptr) return inner_.rmsnorm(site, x, weight, eps, out);
  recorder_->note_route(site, OpKind::rmsnorm);
  recorder_->note_activation(site, "x", x);
  recorder_->note_weight(site, "weight", weight);
  recorder_->note_scalar(site, "eps", eps);
  inner_.rmsnorm(site, x, weight, eps, out);
}

void RecordingOps::matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
                          TensorView out) {
  if (recorder_ == nullptr) return inner_.matmul(site, x, weight, bias, out);
  recorder_->note_route(site, OpKind::matmul);
  recorder_->note_activation(site, "x", x);
  recorder_->note_weight(site, "weight", weight);
  recorder_->note_weight(site, "bias", bias);
  inner_.matmul(site, x, weight, bias, out);
}

void RecordingOps::rope(const OpSite& site, const TensorView& x, const RopeParams& params,
                        std::span<const std::int32_t> positions, TensorView out) {
  if (recorder_ == nullptr) return inner_.rope(site, x, params, positions, out);
  recorder_->note_route(site, OpKind::rope);
  recorder_->note_activation(site, "x", x);
  recorder_->note_positions(site, positions);
  note_rope(site, params);
  inner_.rope(site, x, params, positions, out);
}

void RecordingOps::kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView& kv) {
  if (recorder_ == nullptr) return inner_.kv_write(site, x, part, kv);
  recorder_->note_route(site, OpKind::kv_write);
  recorder_->note_activation(site, "x", x);
  RecordingKv recording = recorder_->recording_kv(site, kv);
  inner_.kv_write(site, x, part, recording);
  recording.finish_writes();
}

void RecordingOps::note_rope(const OpSite& site, const RopeParams& params) {
  recorder_->note_scalar(site, "theta", params.theta);
  recorder_->note_scalar(site, "n_rot", params.n_rot);
  recorder_->note_scalar(site, "interleaved", params.interleaved ? 1 : 0);
  recorder_->note_scalar(site, "linear_scale", params.linear_scale);
  recorder_->note_scalar(site, "freq_factors", static_cast<double>(params.freq_factors.size()));
}

void RecordingOps::kv_shift(const OpSite& site, const KvShift& shift, KvView& kv) {
  if (recorder_ == nullptr) return inner_.kv_shift(site, shift, kv);
  recorder_->begin_shift();
  recorder_->note_route(site, OpKind::kv_shift);
  recorder_->note_scalar(site, "delta", shift.delta);
  if (shift.part == KvPart::k) {
    recorder_->note_scalar(site, "turn", shift.turn);
    note_rope(site, shift.rope);
  }
  RecordingKv recording = recorder_->recording_kv(site, kv);
  inner_.kv_shift(site, shift, recording);
  recording.finish_writes();
}

void RecordingOps::note_attention(const OpSite& site, const AttentionParams& params) {
  recorder_->note_scalar(site, "n_heads", params.n_heads);
  recorder_->note_scalar(site, "n_kv_heads", params.n_kv_heads);
}

void RecordingOps::qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv, TensorView out) {
  if (recorder_ == nullptr) return inner_.qk(site, q, params, kv, out);
  recorder_->note_route(site, OpKind::qk);
  recorder_->note_activation(site, "q", q);
  recorder_->note_kv(site, KvPart::k, kv);
  recorder_->note_scalar(site, "scale", params.scale);
  recorder_->note_scalar(site, "softcap", params.softcap);
  recorder_->note_scalar(site, "window", params.window);
  note_attention(site, params);
  RecordingKv recording = recorder_->recording_kv(site, kv);
  inner_.qk(site, q, params, recording, out);
  recorder_->note_earlier_reads(site, recording.read_from_earlier_steps());
}

void RecordingOps::softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) {
  if (recorder_ == nullptr) return inner_.softmax(site, scores, params, out);
  recorder_->note_route(site, OpKind::softmax);
  recorder_->note_activation(site, "scores", scores);
  inner_.softmax(site, scores, params, out);
}

void RecordingOps::pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv, TensorView out) {
  if (recorder_ == nullptr) return inner_.pv(site, probs, params, kv, out);
  recorder_->note_route(site, OpKind::pv);
  recorder_->note_activation(site, "probs", probs);
  recorder_->note_kv(site, KvPart::v, kv);
  note_attention(site, params);
  RecordingKv recording = recorder_->recording_kv(site, kv);
  inner_.pv(site, probs, params, recording, out);
  recorder_->note_earlier_reads(site, recording.read_from_earlier_steps());
}

void RecordingOps::add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) {
  if (recorder_ == nullptr) return inner_.add(site, a, b, out);
  recorder_->note_route(site, OpKind::add);
  recorder_->note_activation(site, "a", a);
  recorder_->note_activation(site, "b", b);
  inner_.add(site, a, b, out);
}

void RecordingOps::act_mul(const OpSite& site, Activation act, const TensorView& gate, const TensorView& up, TensorView out) {
  if (recorder_ == nullptr) return inner_.act_mul(site, act, gate, up, out);
  recorder_->note_route(site, OpKind::act_mul);
  recorder_->note_activation(site, "gate", gate);
  recorder_->note_activation(site, "up", up);
  recorder_->note_scalar(site, "gelu_tanh", act == Activation::gelu_tanh ? 1 : 0);
  inner_.act_mul(site, act, gate, up, out);
}

void RecordingOps::softcap(const OpSite& site, const TensorView& x, double cap, TensorView out) {
  if (recorder_ == nullptr) return inner_.softcap(site, x, cap, out);
  recorder_->note_route(site, OpKind::softcap);
  recorder_->note_activation(site, "x", x);
  recorder_->note_scalar(site, "cap", cap);
  inner_.softcap(site, x, cap, out);
}

void RecordingOps::quantize(const OpSite& site, const TensorView& x, TensorView out) {
  if (recorder_ == nullptr) return inner_.quantize(site, x, out);
  recorder_->note_route(site, OpKind::quantize);
  recorder_->note_activation(site, "x", x);
  inner_.quantize(site, x, out);
}

TensorView RecordingOps::handoff(const OpSite& site, const TensorView& x) {
  if (recorder_ == nullptr) return inner_.handoff(site, x);
  recorder_->note_activation(site, "x", x);
  return inner_.handoff(site, x);
}

}  // namespace greta
