#include "ops/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "ops/call_check.h"
#include "ops/cpu/context.h"
#include "ops/cpu/convert.h"
#include "ops/cpu/fp_state.h"
#include "ops/float64/float64.h"
#include "ops/q8/q8.h"
#include "ops/reference/reference.h"

namespace greta {
namespace {

class CpuOps final : public Ops {
 public:
  explicit CpuOps(const CpuOpsOptions& options) : context_{options.pool, options.isa}, routes_(options.routes) {}

  void begin_step(const StepInfo&, const RouteTable& routes) override { routes_ = routes; }

  void embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
             TensorView out) override {
    check_embed(routes_, site, table, tokens, scale, out);
    const ScopedFpState fp_state;
    exact(OpKind::embed) ? float64::embed(context_, table, tokens, scale, out)
                         : reference::embed(context_, table, tokens, scale, out);
  }

  void rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) override {
    check_rmsnorm(routes_, site, x, weight, out);
    const ScopedFpState fp_state;
    exact(OpKind::rmsnorm) ? float64::rmsnorm(context_, x, weight, eps, out)
                           : reference::rmsnorm(context_, x, weight, eps, out);
  }

  void matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
              TensorView out) override {
    check_matmul(routes_, site, x, weight, bias, out);
    if (x.n_rows == 0) return;
    const ScopedFpState fp_state;
    if (routes_[OpKind::matmul] == RouteId::q8 && q8::multiplies_integers(x, weight))
      return q8::matmul(context_, x, weight, bias, out);
    exact(OpKind::matmul) ? float64::matmul(context_, x, weight, bias, out) : reference::matmul(context_, x, weight, bias, out);
  }

  void rope(const OpSite& site, const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
            TensorView out) override {
    check_rope(routes_, site, x, params, positions, out);
    const ScopedFpState fp_state;
    exact(OpKind::rope) ? float64::rope(context_, x, params, positions, out)
                        : reference::rope(context_, x, params, positions, out);
  }

  void kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView& kv) override {
    check_kv_write(routes_, site, x, kv);
    const ScopedFpState fp_state;
    exact(OpKind::kv_write) ? float64::kv_write(context_, site, x, part, kv) : reference::kv_write(context_, site, x, part, kv);
  }

  void kv_shift(const OpSite& site, const KvShift& shift, KvView& kv) override {
    check_kv_shift(routes_, site, shift, kv);
    const ScopedFpState fp_state;
    exact(OpKind::kv_shift) ? float64::kv_shift(context_, site, shift, kv) : reference::kv_shift(context_, site, shift, kv);
  }

  void qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv, TensorView out) override {
    check_qk(routes_, site, q, params, kv, out);
    const ScopedFpState fp_state;
    exact(OpKind::qk) ? float64::qk(context_, site, q, params, kv, out) : reference::qk(context_, site, q, params, kv, out);
  }

  void softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) override {
    check_softmax(routes_, site, scores, params, out);
    const ScopedFpState fp_state;
    exact(OpKind::softmax) ? float64::softmax(context_, site, scores, params, out)
                           : reference::softmax(context_, site, scores, params, out);
  }

  void pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv, TensorView out) override {
    check_pv(routes_, site, probs, params, kv, out);
    const ScopedFpState fp_state;
    exact(OpKind::pv) ? float64::pv(context_, site, probs, params, kv, out)
                      : reference::pv(context_, site, probs, params, kv, out);
  }

  void add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) override {
    check_add(routes_, site, a, b, out);
    const ScopedFpState fp_state;
    exact(OpKind::add) ? float64::add(context_, a, b, out) : reference::add(context_, a, b, out);
  }

  void act_mul(const OpSite& site, Activation act, const TensorView& gate, const TensorView& up, TensorView out) override {
    check_act_mul(routes_, site, gate, up, out);
    const ScopedFpState fp_state;
    exact(OpKind::act_mul) ? float64::act_mul(context_, act, gate, up, out) : reference::act_mul(context_, act, gate, up, out);
  }

  void softcap(const OpSite& site, const TensorView& x, double cap, TensorView out) override {
    check_softcap(routes_, site, x, cap, out);
    const ScopedFpState fp_state;
    exact(OpKind::softcap) ? float64::softcap(context_, x, cap, out) : reference::softcap(context_, x, cap, out);
  }

  void quantize(const OpSite& site, const TensorView& x, TensorView out) override {
    check_quantize(routes_, site, x, out);
    if (is_half(out.dtype)) {
      for (std::int64_t r = 0; r < x.n_rows; ++r) convert_row(x.dtype, x.row(r), x.n_cols, out.dtype, out.row(r));
      return;
    }
    const ScopedFpState fp_state;
    exact(OpKind::quantize) ? float64::quantize(context_, x, out) : reference::quantize(context_, x, out);
  }

  TensorView handoff(const OpSite&, const TensorView& x) override { return x; }

 private:
  bool exact(OpKind op) const { return routes_[op] == RouteId::float64; }

  CpuContext context_;
  RouteTable routes_;
};

}  // namespace

std::unique_ptr<Ops> make_cpu_ops(const CpuOpsOptions& options) {
  const std::span<const Isa> isas = supported_isas();
  if (std::find(isas.begin(), isas.end(), options.isa) == isas.end()) {
    fail("--isa {}: this machine does not have it; the widest it has is {}", name(options.isa), name(isas.back()));
  }
  return std::make_unique<CpuOps>(options);
}

}  // namespace greta
