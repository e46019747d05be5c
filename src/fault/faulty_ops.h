// Plants faults: a decorator of Ops that computes selected rows wrongly, in a described way. Nothing in the engine knows it.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "fault/spec.h"
#include "ops/ops.h"

namespace greta {

class FaultyOps final : public Ops {
 public:
  /// A row kept for stale-input: buffers are reused across layers, so an older row is served from a copy.
  struct KeptRow {
    std::vector<std::byte> bytes;
    DType dtype = DType::f32;
    std::int64_t cols = 0;
    RowId token;
    Origin origin;
  };
  /// What a later step needs to know of earlier ones; copied with a snapshot of the run.
  struct Memory {
    std::map<std::tuple<std::size_t, std::int32_t, std::int32_t>, KeptRow> kept;  // fault, layer, sequence
    std::set<std::tuple<std::size_t, std::int32_t, Stage>> slots_done;            // faults in slots of earlier steps
    std::int64_t effects = 0;  // elements that came out other than healthy
  };

  /// `n_prompt` resolves position -1. `inner` outlives this.
  FaultyOps(Ops& inner, std::vector<FaultSpec> faults, std::int32_t n_layers, std::int32_t n_prompt);

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

  /// Elements changed so far. Zero after a whole run: the fault is without effect.
  std::int64_t effects() const { return memory_.effects; }
  const Memory& memory() const { return memory_; }
  void set_memory(Memory memory) { memory_ = std::move(memory); }
  /// Replaces the faults and forgets what was kept for the old ones.
  void set_faults(std::vector<FaultSpec> faults);

 private:
  struct Variation;
  class RowPick;
  template <class Call>
  void vary(const OpSite& site, TensorView out, Call&& call);
  /// Rows grouped by what varies; rows computed rightly are in no group.
  std::vector<std::pair<Variation, std::vector<std::int64_t>>> groups(const OpSite& site) const;
  void spoil_output(const OpSite& site, const TensorView& out);
  void spoil_earlier_slots(const OpSite& site, KvPart part, KvView& kv);
  void keep(const OpSite& site, const TensorView& out);
  void spoil_element(const FaultSpec& fault, std::byte* row, DType dtype, std::int64_t cols);
  bool selects(const FaultSpec& fault, const OpSite& site) const;
  bool selects_row(const FaultSpec& fault, RowId row) const;
  bool any_at(const OpSite& site) const;

  Ops& inner_;
  std::vector<FaultSpec> faults_;
  std::int32_t n_layers_;
  std::int32_t n_prompt_;
  Phase phase_ = Phase::prefill;
  Memory memory_;
  std::vector<std::vector<std::byte>> handed_;  // rows of handoffs that were replaced, of the current step
};

}  // namespace greta
