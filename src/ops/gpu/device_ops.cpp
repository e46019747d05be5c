#include "ops/gpu/device_ops.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "core/error.h"
#include "ops/call_check.h"
#include "ops/gpu/rope_turns.h"

namespace greta::gpu {
namespace {

std::int32_t rows_of(const OpSite& site) { return static_cast<std::int32_t>(site.rows.size()); }

/// Rows that are evenly spaced, as the rows of a buffer and their ranges are.
MatrixArg matrix(const TensorView& view) {
  if (view.extents.empty()) return {view.data, view.dtype, view.n_cols, view.row_stride};
  const std::int64_t first = view.extents.front().offset;
  const std::int64_t stride = view.extents.size() > 1 ? view.extents[1].offset - first : row_bytes(view.dtype, view.n_cols);
  for (std::size_t r = 0; r < view.extents.size(); ++r)
    if (view.extents[r].offset != first + static_cast<std::int64_t>(r) * stride)
      fail("rows of {} are not evenly spaced on the device; ask for logits of consecutive rows", name(view.origin.stage));
  return {view.data + first, view.dtype, view.n_cols, stride};
}

float* floats(const TensorView& view) { return reinterpret_cast<float*>(view.data); }

}  // namespace

DeviceOps::DeviceOps(DeviceModel& model, DeviceKv& kv, int most_rows)
    : device_(*model.device), weights_(*model.weights), kv_(kv), kernels_(device_.kernels()), most_rows_(most_rows) {
  const std::size_t bytes = static_cast<std::size_t>(most_rows) * (sizeof(std::int64_t) + 3 * sizeof(std::int32_t));
  host_rows_ = device_.allocate_host(bytes, "tokens and positions");
  device_rows_ = device_.allocate(bytes, "tokens and positions");
  offsets_ = reinterpret_cast<std::int64_t*>(device_rows_);
  tokens_ = reinterpret_cast<std::int32_t*>(offsets_ + most_rows);
}

DeviceOps::~DeviceOps() {
  device_.release_host(host_rows_);
  device_.release(device_rows_);
  device_.release(scratch_);
  for (auto& [params, turns] : turns_) device_.release(turns);
}

void DeviceOps::set_rows(std::span<const std::int32_t> tokens, std::span<const RowId> rows, std::int64_t n_heads) {
  const auto most = static_cast<std::size_t>(most_rows_);
  if (rows.size() > most) fail("a forward call of {} rows on a session made for {}", rows.size(), most_rows_);
  device_.synchronize(device_.stream());  // the last copy has left the page-locked memory
  auto* offsets = reinterpret_cast<std::int64_t*>(host_rows_);
  auto* numbers = reinterpret_cast<std::int32_t*>(offsets + most);
  std::int64_t offset = 0;
  for (std::size_t r = 0; r < rows.size(); ++r) {
    offsets[r] = offset;
    numbers[r] = tokens[r];
    numbers[most + r] = rows[r].position;
    numbers[2 * most + r] = rows[r].seq;
    offset += (n_heads * (rows[r].position + std::int64_t{1}) + 15) / 16 * 16;
  }
  device_.upload(device_rows_, host_rows_, most * (sizeof(std::int64_t) + 3 * sizeof(std::int32_t)), device_.stream());
}

RowsArg DeviceOps::rows(const OpSite& site) const {
  return {.n = rows_of(site),
          .position = tokens_ + most_rows_,
          .sequence = tokens_ + 2 * most_rows_,
          .score_offset = offsets_,
          .most_keys = most_keys_};
}

std::byte* DeviceOps::scratch(std::size_t bytes) {
  if (bytes <= scratch_bytes_) return scratch_;
  device_.synchronize(device_.stream());
  device_.release(scratch_);
  scratch_ = device_.allocate(bytes, "partial sums");
  scratch_bytes_ = bytes;
  ++scratch_version_;
  return scratch_;
}

const float* DeviceOps::turns(const RopeParams& params) {
  std::byte*& table = turns_[{params.theta, params.linear_scale, params.head_dim, params.n_rot}];
  if (table == nullptr) {
    std::vector<std::int32_t> positions(static_cast<std::size_t>(kv_.capacity()));
    std::iota(positions.begin(), positions.end(), 0);
    const std::vector<float> values = rope_turns(params, positions);
    table = device_.allocate(values.size() * sizeof(float), "rotary angles");
    device_.upload(table, values.data(), values.size() * sizeof(float), device_.stream());
  }
  return reinterpret_cast<const float*>(table);
}

void DeviceOps::begin_step(const StepInfo& step, const RouteTable& routes) {
  routes_ = routes;
  most_keys_ = 0;
  for (const RowId& row : step.rows) most_keys_ = std::max(most_keys_, row.position + 1);
}

void DeviceOps::embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t>, double scale,
                      TensorView out) {
  if (dry_) return;
  kernels_.embed(device_.stream(), {.table = weights_.matrix(table),
                                    .tokens = tokens_,
                                    .n_rows = rows_of(site),
                                    .scale = static_cast<float>(scale),
                                    .out = matrix(out)});
}

void DeviceOps::rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) {
  if (dry_) return;
  kernels_.rmsnorm(device_.stream(), {.x = matrix(x),
                                      .out = matrix(out),
                                      .weight = weights_.vector(weight),
                                      .n_rows = rows_of(site),
                                      .n = static_cast<std::int32_t>(weight.n_cols),
                                      .eps = static_cast<float>(eps),
                                      .fault = fault_});
}

void DeviceOps::matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
                       TensorView out) {
  MatmulArgs args;
  args.route = matmul_route(routes_[OpKind::matmul], x.dtype, weight);
  if (args.route == RouteId::reference && x.dtype != DType::f32)
    fail("route reference of matmul reads F32 in a device session, and {} is {}; use plan reference", name(x.origin.stage),
         name(x.dtype));
  args.x = matrix(x);
  args.out = matrix(out);
  args.weight = weights_.matrix(weight);
  args.bias = weights_.vector(bias);
  args.n_rows = rows_of(site);
  args.fault = fault_;
  args.scratch = scratch(kernels_.matmul_scratch(args));
  if (!dry_) kernels_.matmul(device_.stream(), args);
}

void DeviceOps::rope(const OpSite& site, const TensorView& x, const RopeParams& params, std::span<const std::int32_t>,
                     TensorView out) {
  if (dry_) return;
  kernels_.rope(device_.stream(), {.x = matrix(x),
                                   .out = matrix(out),
                                   .n_rows = rows_of(site),
                                   .head_dim = params.head_dim,
                                   .n_rot = params.n_rot,
                                   .interleaved = params.interleaved,
                                   .turns = turns(params),
                                   .position = rows(site).position,
                                   .fault = fault_});
}

void DeviceOps::kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView&) {
  if (dry_) return;
  kernels_.kv_write(device_.stream(), {.x = matrix(x), .rows = rows(site), .kv = kv_.arg(part, site.layer)});
}

void DeviceOps::kv_shift(const OpSite&, const KvShift&, KvView&) {
  fail("a device session does not shift its context; run without --context-shift, or on the cpu");
}

void DeviceOps::qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView&, TensorView out) {
  if (dry_) return;
  kernels_.qk(device_.stream(), {.route = routes_[OpKind::qk],
                                 .q = matrix(q),
                                 .rows = rows(site),
                                 .keys = kv_.arg(KvPart::k, site.layer),
                                 .n_heads = params.n_heads,
                                 .n_kv_heads = params.n_kv_heads,
                                 .head_dim = params.head_dim,
                                 .window = params.window,
                                 .scale = static_cast<float>(params.scale),
                                 .softcap = static_cast<float>(params.softcap),
                                 .scores = floats(out),
                                 .fault = fault_});
}

void DeviceOps::softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) {
  if (dry_) return;
  kernels_.softmax(device_.stream(), {.route = routes_[OpKind::softmax],
                                      .rows = rows(site),
                                      .n_heads = params.n_heads,
                                      .scores = floats(scores),
                                      .probs = floats(out),
                                      .fault = fault_});
}

void DeviceOps::pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView&, TensorView out) {
  PvArgs args{.route = routes_[OpKind::pv],
              .rows = rows(site),
              .values = kv_.arg(KvPart::v, site.layer),
              .n_heads = params.n_heads,
              .n_kv_heads = params.n_kv_heads,
              .head_dim = params.head_dim,
              .window = params.window,
              .probs = floats(probs),
              .out = matrix(out),
              .fault = fault_};
  args.scratch = scratch(kernels_.pv_scratch(args));
  if (!dry_) kernels_.pv(device_.stream(), args);
}

void DeviceOps::add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) {
  if (dry_) return;
  kernels_.add(device_.stream(), {.a = matrix(a), .b = matrix(b), .out = matrix(out), .n_rows = rows_of(site)});
}

void DeviceOps::act_mul(const OpSite& site, Activation act, const TensorView& gate, const TensorView& up, TensorView out) {
  if (dry_) return;
  kernels_.act_mul(device_.stream(),
                   {.act = act, .gate = matrix(gate), .up = matrix(up), .out = matrix(out), .n_rows = rows_of(site)});
}

void DeviceOps::softcap(const OpSite& site, const TensorView& x, double cap, TensorView out) {
  if (dry_) return;
  kernels_.softcap(device_.stream(),
                   {.x = matrix(x), .out = matrix(out), .n_rows = rows_of(site), .cap = static_cast<float>(cap)});
}

void DeviceOps::quantize(const OpSite& site, const TensorView& x, TensorView out) {
  if (dry_) return;
  kernels_.quantize(device_.stream(), {.x = matrix(x), .out = matrix(out), .n_rows = rows_of(site)});
}

}  // namespace greta::gpu
