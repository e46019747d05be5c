#include "ops/gpu/bridge_ops.h"

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <utility>
#include <vector>

#include "core/activation_blocks.h"
#include "core/blocks.h"
#include "core/error.h"
#include "ops/call_check.h"
#include "ops/cpu/kv_shift.h"
#include "ops/gpu/rope_turns.h"
#include "ops/gpu/staging.h"

namespace greta::gpu {
namespace {

class BridgeOps final : public Ops, public KernelFaults, public TransferFaults {
 public:
  BridgeOps(DeviceModel& model, const RouteTable& routes)
      : device_(*model.device), weights_(*model.weights), kernels_(device_.kernels()), staging_(device_), routes_(routes) {}

  void plant(KernelFault fault) override {
    fault_ = fault;
    staging_.pad_rows(fault == KernelFault::unread_padding ? kPadding : 0);
  }
  void plant(TransferFault fault) override { staging_.plant(fault); }

  void begin_step(const StepInfo&, const RouteTable& routes) override { routes_ = routes; }

  void embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
             TensorView out) override {
    check_embed(routes_, site, table, tokens, scale, out);
    staging_.begin();
    const MatrixArg to = staging_.room(out.dtype, out.n_rows, out.n_cols);
    launch(kernels_.embed, {.table = weights_.matrix(table),
                            .tokens = reinterpret_cast<const std::int32_t*>(staging_.put(tokens.data(), tokens.size_bytes())),
                            .n_rows = rows_of(site),
                            .scale = static_cast<float>(scale),
                            .out = to});
    finish(to, out);
  }

  void rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) override {
    check_rmsnorm(routes_, site, x, weight, out);
    staging_.begin();
    const MatrixArg in = staging_.put(x), to = staging_.room(out.dtype, out.n_rows, out.n_cols);
    launch(kernels_.rmsnorm, {.x = in,
                              .out = to,
                              .weight = weights_.vector(weight),
                              .n_rows = rows_of(site),
                              .n = static_cast<std::int32_t>(weight.n_cols),
                              .eps = static_cast<float>(eps),
                              .fault = fault_});
    finish(to, out);
  }

  void matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
              TensorView out) override {
    check_matmul(routes_, site, x, weight, bias, out);
    if (x.n_rows == 0) return;
    staging_.begin();
    MatmulArgs args;
    args.route = matmul_route(routes_[OpKind::matmul], x.dtype, weight);
    args.weight = weights_.matrix(weight);
    args.x = input_of(x, args);
    args.out = staging_.room(out.dtype, out.n_rows, out.n_cols);
    args.bias = weights_.vector(bias);
    args.n_rows = rows_of(site);
    args.fault = fault_;
    args.scratch = staging_.room(kernels_.matmul_scratch(args));
    launch(kernels_.matmul, args);
    finish(args.out, out);
  }

  void rope(const OpSite& site, const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
            TensorView out) override {
    check_rope(routes_, site, x, params, positions, out);
    turn(x, params, positions, out);
  }

  void kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView& kv) override {
    check_kv_write(routes_, site, x, kv);
    check_cache(kv);
    staging_.begin();
    std::vector<RowId> in_order;  // rows of the slots on the device
    for (std::int64_t r = 0; r < x.n_rows; ++r) in_order.push_back({0, static_cast<std::int32_t>(r)});
    const MatrixArg in = staging_.put(x), to = staging_.room(kv.dtype(), x.n_rows, kv.width());
    launch(kernels_.kv_write, {.x = in,
                               .rows = staging_.rows(in_order),
                               .kv = {to.data, kv.dtype(), 0, to.stride, static_cast<std::int32_t>(kv.width())}});
    std::vector<RowExtent> extents;
    TensorView slots;
    slots.data = kv.write_slot(part, site.layer, site.rows.front());
    for (std::size_t r = 0; r < site.rows.size(); ++r) {
      std::byte* slot = r == 0 ? slots.data : kv.write_slot(part, site.layer, site.rows[r]);
      extents.push_back({slot - slots.data, kv.width()});
    }
    slots.dtype = kv.dtype();
    slots.n_rows = x.n_rows;
    slots.extents = extents;
    finish(to, slots);
  }

  void kv_shift(const OpSite& site, const KvShift& shift, KvView& kv) override {
    check_kv_shift(routes_, site, shift, kv);
    check_cache(kv);
    shift_slots(site, shift, kv, DType::f32,
                [this](const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
                       const TensorView& out) { turn(x, params, positions, out); });
  }

  void qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv, TensorView out) override {
    check_qk(routes_, site, q, params, kv, out);
    check_cache(kv);
    staging_.begin();
    float* scores = staging_.room_for_scores(out);
    launch(kernels_.qk, {.route = routes_[OpKind::qk],
                         .q = staging_.put(q),
                         .rows = staging_.rows(site.rows, params.n_heads),
                         .keys = staging_.slots(kv, KvPart::k, site.layer, site.rows),
                         .n_heads = params.n_heads,
                         .n_kv_heads = params.n_kv_heads,
                         .head_dim = params.head_dim,
                         .window = params.window,
                         .scale = static_cast<float>(params.scale),
                         .softcap = static_cast<float>(params.softcap),
                         .scores = scores,
                         .fault = fault_});
    staging_.fetch_scores(scores, out);
  }

  void softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) override {
    check_softmax(routes_, site, scores, params, out);
    staging_.begin();
    float* probs = staging_.room_for_scores(out);
    launch(kernels_.softmax, {.route = routes_[OpKind::softmax],
                              .rows = staging_.rows(site.rows, params.n_heads),
                              .n_heads = params.n_heads,
                              .scores = staging_.put_scores(scores),
                              .probs = probs,
                              .fault = fault_});
    staging_.fetch_scores(probs, out);
  }

  void pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv, TensorView out) override {
    check_pv(routes_, site, probs, params, kv, out);
    check_cache(kv);
    staging_.begin();
    PvArgs args{.route = routes_[OpKind::pv],
                .rows = staging_.rows(site.rows, params.n_heads),
                .values = staging_.slots(kv, KvPart::v, site.layer, site.rows),
                .n_heads = params.n_heads,
                .n_kv_heads = params.n_kv_heads,
                .head_dim = params.head_dim,
                .window = params.window,
                .probs = staging_.put_scores(probs),
                .out = staging_.room(out.dtype, out.n_rows, out.n_cols),
                .fault = fault_};
    args.scratch = staging_.room(kernels_.pv_scratch(args));
    launch(kernels_.pv, args);
    finish(args.out, out);
  }

  void add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) override {
    check_add(routes_, site, a, b, out);
    staging_.begin();
    const MatrixArg to = staging_.room(out.dtype, out.n_rows, out.n_cols);
    launch(kernels_.add, {.a = staging_.put(a), .b = staging_.put(b), .out = to, .n_rows = rows_of(site)});
    finish(to, out);
  }

  void act_mul(const OpSite& site, Activation act, const TensorView& gate, const TensorView& up, TensorView out) override {
    check_act_mul(routes_, site, gate, up, out);
    staging_.begin();
    const MatrixArg to = staging_.room(out.dtype, out.n_rows, out.n_cols);
    launch(kernels_.act_mul,
           {.act = act, .gate = staging_.put(gate), .up = staging_.put(up), .out = to, .n_rows = rows_of(site)});
    finish(to, out);
  }

  void softcap(const OpSite& site, const TensorView& x, double cap, TensorView out) override {
    check_softcap(routes_, site, x, cap, out);
    staging_.begin();
    const MatrixArg to = staging_.room(out.dtype, out.n_rows, out.n_cols);
    launch(kernels_.softcap, {.x = staging_.put(x), .out = to, .n_rows = rows_of(site), .cap = static_cast<float>(cap)});
    finish(to, out);
  }

  void quantize(const OpSite& site, const TensorView& x, TensorView out) override {
    check_quantize(routes_, site, x, out);
    staging_.begin();
    const MatrixArg to = staging_.room(out.dtype, out.n_rows, out.n_cols);
    launch(kernels_.quantize, {.x = staging_.put(x), .out = to, .n_rows = rows_of(site)});
    finish(to, out);
  }

  TensorView handoff(const OpSite&, const TensorView& x) override { return x; }

 private:
  /// Bytes behind a row where a kernel that reads there is to find some: most rows fill their 64 bytes.
  static constexpr std::size_t kPadding = 64;
  /// Positions of the longest table of turns that is made for the fault narrow_position.
  static constexpr std::int32_t kMostTurns = 1 << 20;

  /// Queues a kernel, when all of its operands are put.
  template <class Args>
  void launch(void (*kernel)(Stream, const Args&), const std::type_identity_t<Args>& args) {
    kernel(staging_.depart(), args);
  }

  static std::int32_t rows_of(const OpSite& site) { return static_cast<std::int32_t>(site.rows.size()); }

  /// Brings the result back, which waits for the kernels and for their errors.
  void finish(const MatrixArg& from, const TensorView& out) {
    staging_.fetch(from, out);
    weights_.release_temporaries();
  }

  /// x as the route reads it; a conversion of the plan that another route was chosen for is undone, exactly.
  MatrixArg input_of(const TensorView& x, const MatmulArgs& args) {
    if (args.route != RouteId::reference || x.dtype == DType::f32) return staging_.put(x);
    widened_.resize(static_cast<std::size_t>(x.n_rows * x.n_cols));
    for (std::int64_t r = 0; r < x.n_rows; ++r) {
      float* row = widened_.data() + r * x.n_cols;
      x.dtype == DType::q8_f32 ? dequantize_activations(x.row(r), x.n_cols, row)
                               : dequantize_row(x.dtype, x.row(r), x.n_cols, row);
    }
    TensorView wide;
    wide.data = reinterpret_cast<std::byte*>(widened_.data());
    wide.n_rows = x.n_rows;
    wide.n_cols = x.n_cols;
    wide.row_stride = x.n_cols * static_cast<std::int64_t>(sizeof(float));
    return staging_.put(wide);
  }

  /// Kernels are told a turn a row; where the position itself is to go wrong, a table of turns by position.
  void turn(const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions, const TensorView& out) {
    staging_.begin();
    const auto [least, most] = std::minmax_element(positions.begin(), positions.end());
    const bool by_position = fault_ == KernelFault::narrow_position && !positions.empty() && *least >= 0 && *most < kMostTurns;
    std::vector<std::int32_t> table;
    if (by_position) {
      table.resize(static_cast<std::size_t>(*most) + 1);
      std::iota(table.begin(), table.end(), 0);
    }
    const std::vector<float> turns = rope_turns(params, by_position ? std::span<const std::int32_t>(table) : positions);
    const MatrixArg in = staging_.put(x), to = staging_.room(out.dtype, out.n_rows, out.n_cols);
    const std::byte* rows = by_position ? staging_.put(positions.data(), positions.size_bytes()) : nullptr;
    launch(kernels_.rope, {.x = in,
                           .out = to,
                           .n_rows = static_cast<std::int32_t>(x.n_rows),
                           .head_dim = params.head_dim,
                           .n_rot = params.n_rot,
                           .interleaved = params.interleaved,
                           .turns = reinterpret_cast<const float*>(staging_.put(turns.data(), turns.size() * sizeof(float))),
                           .position = reinterpret_cast<const std::int32_t*>(rows),
                           .fault = fault_});
    finish(to, out);
  }

  static void check_cache(const KvView& kv) {
    if (kv.dtype() != DType::f32 && !is_half(kv.dtype()))
      fail("a KV cache of type {} is not computed with on a GPU; use f32, f16 or bf16", name(kv.dtype()));
  }

  Device& device_;
  WeightStore& weights_;
  const KernelTable& kernels_;
  Staging staging_;
  RouteTable routes_;
  KernelFault fault_ = KernelFault::none;
  std::vector<float> widened_;
};

}  // namespace

RouteId matmul_route(RouteId chosen, DType x, const WeightView& weight) {
  if (chosen == RouteId::reference || weight.layout == WeightLayout::transposed) return RouteId::reference;
  if (x == DType::q8_f32 && is_block_type(weight.dtype)) return RouteId::q8;
  if (is_half(x) && x == weight.dtype && chosen != RouteId::q8) return chosen;
  return RouteId::reference;
}

std::unique_ptr<Ops> make_bridge_ops(DeviceModel& model, const RouteTable& routes) {
  return std::make_unique<BridgeOps>(model, routes);
}

}  // namespace greta::gpu
