#include "ops/call_check.h"

#include <cmath>
#include <utility>

#include "core/activation_blocks.h"
#include "core/error.h"

namespace greta {
namespace {

/// Names the call in errors, and holds the checks that several ops share.
class CallCheck {
 public:
  CallCheck(OpKind op, const OpSite& site, RouteId route) : op_(op), site_(site), route_(route) {}

  template <class... Args>
  [[noreturn]] void reject(fmt::format_string<Args...> format, Args&&... args) const {
    fail("{} of {} in layer {}: {}", name(op_), name(site_.stage), site_.layer,
         fmt::format(format, std::forward<Args>(args)...));
  }

  /// An activation: a type that the route takes, and as many rows as the call has.
  void activation(std::string_view what, const TensorView& view) const {
    if (view.dtype != DType::f32 && (view.dtype != DType::f64 || route_ != RouteId::float64)) {
      reject("{} is {}, route {} takes {}", what, name(view.dtype), name(route_),
             route_ == RouteId::float64 ? "f32 or f64" : "f32");
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
  /// An activation rounded to 16 bits.
  void halves(std::string_view what, const TensorView& view, std::int64_t n_cols) const {
    rows(what, view);
    if (view.n_cols != n_cols || n_cols < 1) reject("{} has {} columns, {} are needed", what, view.n_cols, n_cols);
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
    if (params.window < 0) reject("window {} is negative", params.window);
    if (!(params.softcap >= 0) || !std::isfinite(params.softcap)) reject("softcap {} is no cap", params.softcap);
    positions();
  }
  void cache(const KvView& kv, std::int64_t width) const {
    if (kv.width() != width) reject("KV slots hold {} elements, {} are needed", kv.width(), width);
    const DType dtype = kv.dtype();
    if (dtype != DType::f64 && dtype != DType::f32 && dtype != DType::f16 && dtype != DType::bf16 && dtype != DType::q8_0)
      reject("KV of type {} is not computed with; use f64, f32, f16, bf16 or q8_0", name(dtype));
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

void check_zipped(const RouteTable& routes, OpKind op, const OpSite& site, const TensorView& a, const TensorView& b,
                  const TensorView& out) {
  const CallCheck check(op, site, routes[op]);
  check.activation("the first operand", a, a.n_cols);
  check.activation("the second operand", b, a.n_cols);
  check.activation("out", out, a.n_cols);
}

}  // namespace

void check_embed(const RouteTable& routes, const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens,
                 double scale, const TensorView& out) {
  const CallCheck check(OpKind::embed, site, routes[OpKind::embed]);
  check.activation("out", out, table.n_cols);
  if (tokens.size() != site.rows.size()) check.reject("{} tokens for {} rows", tokens.size(), site.rows.size());
  for (const std::int32_t token : tokens) {
    if (token < 0 || token >= table.n_rows) check.reject("token id {} is outside 0..{}", token, table.n_rows - 1);
  }
  if (!std::isfinite(scale)) check.reject("scale {} is not a finite number", scale);
}

void check_rmsnorm(const RouteTable& routes, const OpSite& site, const TensorView& x, const WeightView& weight,
                   const TensorView& out) {
  const CallCheck check(OpKind::rmsnorm, site, routes[OpKind::rmsnorm]);
  check.activation("x", x, x.n_cols);
  check.activation("out", out, x.n_cols);
  if (weight.n_cols < 1 || x.n_cols % weight.n_cols != 0) {
    check.reject("{} columns are no groups of the {} of weight '{}'", x.n_cols, weight.n_cols, weight.name);
  }
  check.vector("weight", weight, weight.n_cols);
}

void check_matmul(const RouteTable& routes, const OpSite& site, const TensorView& x, const WeightView& weight,
                  const WeightView& bias, const TensorView& out) {
  const CallCheck check(OpKind::matmul, site, routes[OpKind::matmul]);
  if (x.dtype == DType::q8_f32) {
    check.blocks("x", x, weight.n_cols);
  } else if (is_half(x.dtype)) {
    check.halves("x", x, weight.n_cols);
  } else {
    check.activation("x", x, weight.n_cols);
  }
  check.activation("out", out, weight.n_rows);
  if (bias) check.vector("bias", bias, weight.n_rows);
}

void check_rope(const RouteTable& routes, const OpSite& site, const TensorView& x, const RopeParams& params,
                std::span<const std::int32_t> positions, const TensorView& out) {
  const CallCheck check(OpKind::rope, site, routes[OpKind::rope]);
  check.activation("x", x, x.n_cols);
  check.activation("out", out, x.n_cols);
  if (positions.size() != site.rows.size()) check.reject("{} positions for {} rows", positions.size(), site.rows.size());
  check.turn(params, x.n_cols);
}

void check_kv_write(const RouteTable& routes, const OpSite& site, const TensorView& x, KvView& kv) {
  const CallCheck check(OpKind::kv_write, site, routes[OpKind::kv_write]);
  check.activation("x", x, kv.width());
  check.cache(kv, kv.width());
}

void check_kv_shift(const RouteTable& routes, const OpSite& site, const KvShift& shift, KvView& kv) {
  const CallCheck check(OpKind::kv_shift, site, routes[OpKind::kv_shift]);
  check.cache(kv, kv.width());
  check.positions();
  for (const RowId& row : site.rows) {
    if (row.position - std::int64_t{shift.delta} < 0)
      check.reject("position {} would come from before the start by {}", row.position, shift.delta);
  }
  if (shift.part == KvPart::k) check.turn(shift.rope, kv.width());
}

void check_qk(const RouteTable& routes, const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv,
              const TensorView& out) {
  const CallCheck check(OpKind::qk, site, routes[OpKind::qk]);
  check.heads(params);
  check.cache(kv, std::int64_t{params.n_kv_heads} * params.head_dim);
  check.whole_blocks(kv.dtype(), params.head_dim);
  check.activation("q", q, std::int64_t{params.n_heads} * params.head_dim);
  check.ragged("out", out, params);
}

void check_softmax(const RouteTable& routes, const OpSite& site, const TensorView& scores, const AttentionParams& params,
                   const TensorView& out) {
  const CallCheck check(OpKind::softmax, site, routes[OpKind::softmax]);
  check.heads(params);
  check.ragged("scores", scores, params);
  check.ragged("out", out, params);
}

void check_pv(const RouteTable& routes, const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv,
              const TensorView& out) {
  const CallCheck check(OpKind::pv, site, routes[OpKind::pv]);
  check.heads(params);
  check.cache(kv, std::int64_t{params.n_kv_heads} * params.head_dim);
  check.whole_blocks(kv.dtype(), params.head_dim);
  check.ragged("probs", probs, params);
  check.activation("out", out, std::int64_t{params.n_heads} * params.head_dim);
}

void check_add(const RouteTable& routes, const OpSite& site, const TensorView& a, const TensorView& b, const TensorView& out) {
  check_zipped(routes, OpKind::add, site, a, b, out);
}

void check_act_mul(const RouteTable& routes, const OpSite& site, const TensorView& gate, const TensorView& up,
                   const TensorView& out) {
  check_zipped(routes, OpKind::act_mul, site, gate, up, out);
}

void check_softcap(const RouteTable& routes, const OpSite& site, const TensorView& x, double cap, const TensorView& out) {
  const CallCheck check(OpKind::softcap, site, routes[OpKind::softcap]);
  check.activation("x", x, x.n_cols);
  check.activation("out", out, x.n_cols);
  if (!(cap > 0) || !std::isfinite(cap)) check.reject("cap {} is not a positive number", cap);
}

void check_quantize(const RouteTable& routes, const OpSite& site, const TensorView& x, const TensorView& out) {
  const CallCheck check(OpKind::quantize, site, routes[OpKind::quantize]);
  check.activation("x", x, x.n_cols);
  is_half(out.dtype) ? check.halves("out", out, x.n_cols) : check.blocks("out", out, x.n_cols);
}

}  // namespace greta
