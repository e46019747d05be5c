#include "ops/cpu_ops.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/activation_blocks.h"
#include "core/error.h"
#include "ops/cpu/context.h"
#include "ops/cpu/fp_state.h"
#include "ops/float64/float64.h"
#include "ops/reference/reference.h"

namespace greta {
namespace {

/// Names the call in errors, and holds the checks that several ops share.
class Check {
 public:
  Check(OpKind op, const OpSite& site, RouteId route) : op_(op), site_(site), route_(route) {}

  template <class... Args>
  [[noreturn]] void reject(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{} of {} in layer {}: {}", name(op_), name(site_.stage), site_.layer,
         fmt::format(format, std::forward<Args>(args)...));
  }

  /// An activation: a type that the route takes, and as many rows as the call has.
  void activation(std::string_view what, const TensorView& view) const {
    if (view.dtype != DType::f32 && (view.dtype != DType::f64 || route_ == RouteId::reference)) {
      reject("{} is {}, route {} takes {}", what, name(view.dtype), name(route_),
             route_ == RouteId::reference ? "f32" : "f32 or f64");
    }
    rows(what, view);
  }
  void rows(std::string_view what, const TensorView& view) const {
    const auto n_rows = static_cast<std::int64_t>(site_.rows.size());
    if (view.n_rows != n_rows) reject("{} has {} rows, the call has {}", what, view.n_rows, n_rows);
  }
  void activation(std::string_view what, const TensorView& view, std::int64_t n_cols) const {
    activation(what, view);
    if (view.n_cols != n_cols || n_cols < 1) reject("{} has {} columns, {} are needed", what, view.n_cols, n_cols);
  }
  /// A quantised activation.
  void blocks(std::string_view what, const TensorView& view, std::int64_t n_cols) const {
    if (view.dtype != DType::q8_f32) reject("{} is {}, q8_f32 is needed", what, name(view.dtype));
    rows(what, view);
    if (view.n_cols != n_cols || n_cols < 1 || n_cols % kActivationBlock != 0)
      reject("{} has {} columns, {} in whole blocks of {} are needed", what, view.n_cols, n_cols, kActivationBlock);
  }
  void vector(std::string_view what, const WeightView& weight, std::int64_t n) const {
    if (weight.n_rows != 1 || weight.n_cols != n) {
      reject("{} '{}' is [{}, {}], [1, {}] is needed", what, weight.name, weight.n_rows, weight.n_cols, n);
    }
  }
  void positions() const {
    for (const RowId& row : site_.rows) {
      if (row.position < 0) reject("position {} is negative", row.position);
    }
  }
  /// Scores and probabilities: [n_heads, position + 1] a row.
  void ragged(std::string_view what, const TensorView& view, const AttentionParams& params) const {
    activation(what, view);
    for (std::int64_t r = 0; r < view.n_rows; ++r) {
      const std::int64_t needed =
          std::int64_t{params.n_heads} * (site_.rows[static_cast<std::size_t>(r)].position + std::int64_t{1});
      if (view.cols(r) != needed) reject("row {} of {} has {} columns, {} are needed", r, what, view.cols(r), needed);
    }
  }
  void heads(const AttentionParams& params) const {
    if (params.head_dim < 1 || params.n_kv_heads < 1 || params.n_heads < 1 || params.n_heads % params.n_kv_heads != 0) {
      reject("{} heads of {} do not share {} KV heads evenly", params.n_heads, params.head_dim, params.n_kv_heads);
    }
    positions();
  }
  void cache(const KvView& kv, std::int64_t width) const {
    if (kv.width() != width) reject("KV slots hold {} elements, {} are needed", kv.width(), width);
    if (kv.dtype() != DType::f64 && kv.dtype() != DType::f32 && kv.dtype() != DType::f16 && kv.dtype() != DType::q8_0) {
      reject("KV of type {} is not computed with; use f64, f32, f16 or q8_0", name(kv.dtype()));
    }
    whole_blocks(kv.dtype(), width);
  }
  void turn(const RopeParams& params, std::int64_t n_cols) const {
    if (params.head_dim < 1 || n_cols % params.head_dim != 0) reject("{} columns are no heads of {}", n_cols, params.head_dim);
    if (params.n_rot < 0 || params.n_rot % 2 != 0 || params.n_rot > params.head_dim) {
      reject("{} of {} elements of a head cannot turn in pairs", params.n_rot, params.head_dim);
    }
    if (!params.freq_factors.empty() && params.freq_factors.size() != static_cast<std::size_t>(params.n_rot / 2)) {
      reject("{} frequency factors for {} pairs", params.freq_factors.size(), params.n_rot / 2);
    }
    if (!(params.theta > 0) || !std::isfinite(params.theta)) reject("theta {} is not a positive number", params.theta);
  }
  /// Slots, or heads of them, are whole blocks.
  void whole_blocks(DType dtype, std::int64_t n) const {
    const std::int64_t block = dtype_info(dtype).block_elems;
    if (n % block != 0) reject("{} elements are not whole {} blocks of {}", n, name(dtype), block);
  }

 private:
  OpKind op_;
  const OpSite& site_;
  RouteId route_;
};

class CpuOps final : public Ops {
 public:
  explicit CpuOps(const CpuOpsOptions& options) : context_{options.pool, options.isa}, routes_(options.routes) {}

  void begin_step(const StepInfo&, const RouteTable& routes) override { routes_ = routes; }

  void embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, TensorView out) override {
    const Check check = checks(OpKind::embed, site);
    check.activation("out", out, table.n_cols);
    if (tokens.size() != site.rows.size()) check.reject("{} tokens for {} rows", tokens.size(), site.rows.size());
    for (const std::int32_t token : tokens) {
      if (token < 0 || token >= table.n_rows) check.reject("token id {} is outside 0..{}", token, table.n_rows - 1);
    }
    const ScopedFpState fp_state;
    exact(OpKind::embed) ? float64::embed(context_, table, tokens, out) : reference::embed(context_, table, tokens, out);
  }

  void rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) override {
    const Check check = checks(OpKind::rmsnorm, site);
    check.activation("x", x, x.n_cols);
    check.activation("out", out, x.n_cols);
    check.vector("weight", weight, x.n_cols);
    const ScopedFpState fp_state;
    exact(OpKind::rmsnorm) ? float64::rmsnorm(context_, x, weight, eps, out)
                           : reference::rmsnorm(context_, x, weight, eps, out);
  }

  void matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
              TensorView out) override {
    const Check check = checks(OpKind::matmul, site);
    if (x.dtype == DType::q8_f32) {
      check.blocks("x", x, weight.n_cols);
    } else {
      check.activation("x", x, weight.n_cols);
    }
    check.activation("out", out, weight.n_rows);
    if (bias) check.vector("bias", bias, weight.n_rows);
    if (x.n_rows == 0) return;
    const ScopedFpState fp_state;
    exact(OpKind::matmul) ? float64::matmul(context_, x, weight, bias, out) : reference::matmul(context_, x, weight, bias, out);
  }

  void rope(const OpSite& site, const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
            TensorView out) override {
    const Check check = checks(OpKind::rope, site);
    check.activation("x", x, x.n_cols);
    check.activation("out", out, x.n_cols);
    if (positions.size() != site.rows.size()) check.reject("{} positions for {} rows", positions.size(), site.rows.size());
    check.turn(params, x.n_cols);
    const ScopedFpState fp_state;
    exact(OpKind::rope) ? float64::rope(context_, x, params, positions, out)
                        : reference::rope(context_, x, params, positions, out);
  }

  void kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView& kv) override {
    const Check check = checks(OpKind::kv_write, site);
    check.activation("x", x, kv.width());
    check.cache(kv, kv.width());
    const ScopedFpState fp_state;
    exact(OpKind::kv_write) ? float64::kv_write(context_, site, x, part, kv) : reference::kv_write(context_, site, x, part, kv);
  }

  void kv_shift(const OpSite& site, const KvShift& shift, KvView& kv) override {
    const Check check = checks(OpKind::kv_shift, site);
    check.cache(kv, kv.width());
    check.positions();
    for (const RowId& row : site.rows) {
      if (row.position - std::int64_t{shift.delta} < 0)
        check.reject("position {} would come from before the start by {}", row.position, shift.delta);
    }
    if (shift.part == KvPart::k) check.turn(shift.rope, kv.width());
    const ScopedFpState fp_state;
    exact(OpKind::kv_shift) ? float64::kv_shift(context_, site, shift, kv) : reference::kv_shift(context_, site, shift, kv);
  }

  void qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv, TensorView out) override {
    const Check check = checks(OpKind::qk, site);
    check.heads(params);
    check.cache(kv, std::int64_t{params.n_kv_heads} * params.head_dim);
    check.whole_blocks(kv.dtype(), params.head_dim);
    check.activation("q", q, std::int64_t{params.n_heads} * params.head_dim);
    check.ragged("out", out, params);
    const ScopedFpState fp_state;
    exact(OpKind::qk) ? float64::qk(context_, site, q, params, kv, out) : reference::qk(context_, site, q, params, kv, out);
  }

  void softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) override {
    const Check check = checks(OpKind::softmax, site);
    check.heads(params);
    check.ragged("scores", scores, params);
    check.ragged("out", out, params);
    const ScopedFpState fp_state;
    exact(OpKind::softmax) ? float64::softmax(context_, site, scores, params, out)
                           : reference::softmax(context_, site, scores, params, out);
  }

  void pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv, TensorView out) override {
    const Check check = checks(OpKind::pv, site);
    check.heads(params);
    check.cache(kv, std::int64_t{params.n_kv_heads} * params.head_dim);
    check.whole_blocks(kv.dtype(), params.head_dim);
    check.ragged("probs", probs, params);
    check.activation("out", out, std::int64_t{params.n_heads} * params.head_dim);
    const ScopedFpState fp_state;
    exact(OpKind::pv) ? float64::pv(context_, site, probs, params, kv, out)
                      : reference::pv(context_, site, probs, params, kv, out);
  }

  void add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) override {
    zipped(OpKind::add, site, a, b, out);
    const ScopedFpState fp_state;
    exact(OpKind::add) ? float64::add(context_, a, b, out) : reference::add(context_, a, b, out);
  }

  void silu_mul(const OpSite& site, const TensorView& gate, const TensorView& up, TensorView out) override {
    zipped(OpKind::silu_mul, site, gate, up, out);
    const ScopedFpState fp_state;
    exact(OpKind::silu_mul) ? float64::silu_mul(context_, gate, up, out) : reference::silu_mul(context_, gate, up, out);
  }

  void quantize(const OpSite& site, const TensorView& x, TensorView out) override {
    const Check check = checks(OpKind::quantize, site);
    check.activation("x", x, x.n_cols);
    check.blocks("out", out, x.n_cols);
    const ScopedFpState fp_state;
    exact(OpKind::quantize) ? float64::quantize(context_, x, out) : reference::quantize(context_, x, out);
  }

  TensorView handoff(const OpSite&, const TensorView& x) override { return x; }

 private:
  Check checks(OpKind op, const OpSite& site) const { return {op, site, routes_[op]}; }
  bool exact(OpKind op) const { return routes_[op] == RouteId::float64; }
  void zipped(OpKind op, const OpSite& site, const TensorView& a, const TensorView& b, const TensorView& out) const {
    const Check check = checks(op, site);
    check.activation("the first operand", a, a.n_cols);
    check.activation("the second operand", b, a.n_cols);
    check.activation("out", out, a.n_cols);
  }

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
