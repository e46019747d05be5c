// Plants faults: a decorator of Ops that computes selected rows wrongly, in a described way. Nothing in the engine knows it.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <tuple>
#include <vector>

#include "fault/catalogue.h"
#include "fault/target.h"
#include "fault/wrong_call.h"
#include "ops/ops.h"

namespace greta {

/// Every call runs whole and healthy first; then the rows that a fault selects run again, wrongly. So all other rows have the
/// bits of a healthy run, and the elements that came out otherwise are counted.
class FaultyOps final : public Ops {
 public:
  /// What a later step needs to know of earlier ones; copied with a snapshot of the run.
  struct Memory {
    std::map<std::size_t, KeptRows> kept;                               // by fault
    std::set<std::tuple<std::size_t, std::int32_t, Stage>> slots_done;  // faults in slots of earlier steps
    std::map<std::size_t, std::int64_t> effects;  // by fault: elements that came out other than without it
  };

  /// `inner` (recorded) computes the calls, `kernel` (not recorded) what a wrong kernel does inside. Both, and the model,
  /// outlive this. Throws Error for a fault that the target cannot have.
  FaultyOps(Ops& inner, Ops& kernel, const FaultTarget& target, std::vector<FaultSpec> faults);

  void begin_step(const StepInfo& step, const RouteTable& routes) override;
  void embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
             TensorView out) override;
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
  void act_mul(const OpSite& site, Activation act, const TensorView& gate, const TensorView& up, TensorView out) override;
  void softcap(const OpSite& site, const TensorView& x, double cap, TensorView out) override;
  void quantize(const OpSite& site, const TensorView& x, TensorView out) override;
  TensorView handoff(const OpSite& site, const TensorView& x) override;

  /// Elements changed so far by each fault. Zero after a whole run: it is without effect.
  std::vector<std::int64_t> effects_by_fault() const;
  std::int64_t effects() const;
  const Memory& memory() const { return memory_; }
  void set_memory(Memory memory) { memory_ = std::move(memory); }
  /// Replaces the faults and forgets what was kept for the old ones.
  void set_faults(std::vector<FaultSpec> faults);

 private:
  /// Rows of one sequence at which the same faults are to be planted.
  struct Group {
    std::vector<std::size_t> faults;
    std::int32_t seq = 0;
    std::vector<std::int64_t> rows;
  };
  std::vector<Group> groups(const OpSite& site) const;
  void run_whole(const OpCall& whole);
  void make_wrong(const OpCall& whole, const std::vector<Group>& groups);
  void make_wrong(const OpCall& whole, const Group& group);
  /// Plants the group's faults in the call and runs it.
  void run_wrong(WrongCall& call, const Group& group);
  void spoil_earlier_slots(const OpSite& site, KvPart part, KvView& kv);
  void keep(const OpSite& site, const TensorView& out);
  bool selects(const FaultSpec& fault, const OpSite& site) const;
  bool selects_row(const FaultSpec& fault, RowId row) const;

  Ops& inner_;
  Ops& kernel_;
  FaultTarget target_;
  std::vector<FaultSpec> faults_;
  Phase phase_ = Phase::prefill;
  KvView* kv_ = nullptr;  // of the last qk: softmax itself is not told
  Memory memory_;
  AlteredWeights altered_;
  Arena handed_;  // rows of handoffs that were replaced, of the current step
};

}  // namespace greta
