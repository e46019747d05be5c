// The innermost decorator: sees the bytes that a kernel is handed and where they came from.
#pragma once

#include "ops/ops.h"
#include "recording/recorder.h"

namespace greta {

/// Passes every call on unchanged and tells the recorder its operands; without one it only passes on.
class RecordingOps final : public Ops {
 public:
  explicit RecordingOps(Ops& inner, Recorder* recorder = nullptr) : inner_(inner), recorder_(recorder) {}
  void set_recorder(Recorder* recorder) { recorder_ = recorder; }

  void begin_step(const StepInfo& step, const RouteTable& routes) override;
  void embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, TensorView out) override;
  void rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) override;
  void matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
              TensorView out) override;
  void rope(const OpSite& site, const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
            TensorView out) override;
  void kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView& kv) override;
  void kv_shift(const OpSite& site, const KvShift& shift, KvView& kv) override;
  void qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv, TensorView out) override;
  void softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) override;
  void pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv, TensorView out) override;
  void add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) override;
  void silu_mul(const OpSite& site, const TensorView& gate, const TensorView& up, TensorView out) override;
  void quantize(const OpSite& site, const TensorView& x, TensorView out) override;
  TensorView handoff(const OpSite& site, const TensorView& x) override;

 private:
  void note_rope(const OpSite& site, const RopeParams& params);
  void note_attention(const OpSite& site, const AttentionParams& params);

  Ops& inner_;
  Recorder* recorder_;  // null: off
};

}  // namespace greta
