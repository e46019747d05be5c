// The ops on a GPU, over tensors of the device: every call queues the kernels of its route and returns.
#pragma once

#include <cstdint>
#include <map>
#include <span>
#include <tuple>
#include <vector>

#include "ops/gpu/bridge_ops.h"
#include "ops/gpu/device_kv.h"
#include "ops/ops.h"

namespace greta::gpu {

/// Views that these ops get point to device memory; `kv` of a call is the DeviceKv that they were made with. Tokens, positions
/// and sequences are read from device memory, where set_rows() puts them: so calls that were captured compute other rows when
/// they are replayed. Operands are not checked again: the session that drives them lays them out.
class DeviceOps final : public Ops, public KernelFaults {
 public:
  /// `most_rows` of a forward call. All outlive this.
  DeviceOps(DeviceModel& model, DeviceKv& kv, int most_rows);
  ~DeviceOps() override;

  void plant(KernelFault fault) override { fault_ = fault; }
  /// Tokens and rows of the calls that follow, or of a replay: [n] each; scores of `n_heads` heads lie one row after the other,
  /// each 64-byte aligned. One copy to the device, in order with what is queued.
  void set_rows(std::span<const std::int32_t> tokens, std::span<const RowId> rows, std::int64_t n_heads);
  /// Device memory of the step's tokens, [most_rows]: where a sampled id can go.
  std::int32_t* tokens() { return tokens_; }
  /// While on, calls queue nothing; the memory that they need for themselves is taken all the same.
  void set_dry(bool dry) { dry_ = dry; }
  /// Changes when memory that calls took for their own use has been freed: what was captured before may not be replayed.
  std::uint64_t scratch_version() const { return scratch_version_; }

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
  TensorView handoff(const OpSite& site, const TensorView& x) override { return (void)site, x; }

 private:
  RowsArg rows(const OpSite& site) const;
  std::byte* scratch(std::size_t bytes);
  const float* turns(const RopeParams& params);

  Device& device_;
  WeightStore& weights_;
  DeviceKv& kv_;
  const KernelTable& kernels_;
  int most_rows_;
  RouteTable routes_;
  std::int32_t most_keys_ = 0;
  KernelFault fault_ = KernelFault::none;
  bool dry_ = false;
  std::byte* host_rows_ = nullptr;    // page-locked; then the same on the device:
  std::byte* device_rows_ = nullptr;  // score offsets, tokens, positions, sequences
  std::int64_t* offsets_ = nullptr;
  std::int32_t* tokens_ = nullptr;
  std::byte* scratch_ = nullptr;
  std::size_t scratch_bytes_ = 0;
  std::uint64_t scratch_version_ = 0;
  std::map<std::tuple<double, double, int, int>, std::byte*> turns_;  // by theta, linear scale, head_dim, n_rot
};

}  // namespace greta::gpu
