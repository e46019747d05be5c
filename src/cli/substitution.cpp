#include "cli/substitution.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "audit/op_graph.h"
#include "audit/row_case.h"
#include "core/activation_blocks.h"
#include "ops/cpu/convert.h"

namespace greta::cli {
namespace {

bool is_slots(Stage stage) { return stage == Stage::k_cache || stage == Stage::v_cache; }

/// Values rounded once to `dtype`; activations in blocks by the one definition of their codes.
void store(std::span<const double> values, DType dtype, std::byte* out) {
  const auto n = static_cast<std::int64_t>(values.size());
  if (dtype != DType::q8_f32) return convert_row(DType::f64, reinterpret_cast<const std::byte*>(values.data()), n, dtype, out);
  std::vector<float> narrow(values.begin(), values.end());
  quantize_activations(narrow.data(), n, out);
}

}  // namespace

SubstitutingOps::SubstitutingOps(Ops& inner, const Model& model)
    : inner_(inner), contract_(contract_of(model)), tensors_(*model.file) {}

void SubstitutingOps::substitute(RightRows rows, std::vector<std::int32_t> tokens) {
  rows_ = std::move(rows);
  tokens_ = std::move(tokens);
  kept_.clear();
  layers_.clear();
  left_ = 0;
  for (const RecordKey& key : rows_) layers_.insert({key.layer, key.layer - 1});
}

std::span<const double> SubstitutingOps::row(Stage stage, int layer, int position) const {
  const auto place = kept_.find({layer, stage});
  if (place == kept_.end()) return {};
  const auto found = place->second.rows.find(position);
  return found == place->second.rows.end() ? std::span<const double>() : found->second;
}

std::optional<DType> SubstitutingOps::dtype(Stage stage, int layer) const {
  const auto found = kept_.find({layer, stage});
  return found == kept_.end() ? std::nullopt : std::optional(found->second.dtype);
}

std::string_view SubstitutingOps::route(Stage stage, int layer) const {
  const auto found = kept_.find({layer, stage});
  return found == kept_.end() ? std::string_view() : name(routes_[found->second.op]);
}

std::vector<int> SubstitutingOps::positions(Stage stage, int layer) const {
  std::vector<int> out;
  if (const auto found = kept_.find({layer, stage}); found != kept_.end())
    for (const auto& [position, values] : found->second.rows) out.push_back(position);
  return out;
}

/// Rows of layers that this call has left behind are dropped; KV slots are read by later calls too.
SubstitutingOps::Kept& SubstitutingOps::kept(const OpSite& site, OpKind op, DType dtype) {
  if (site.layer != layer_) {
    layer_ = site.layer;
    std::erase_if(kept_, [&](const auto& entry) {
      const auto [layer, stage] = entry.first;
      return !is_slots(stage) && layer != site.layer && layer != site.layer - 1;
    });
  }
  Kept& place = kept_[{site.layer, site.stage}];
  place.dtype = dtype;
  place.op = op;
  return place;
}

void SubstitutingOps::keep(const OpSite& site, const TensorView& out, std::int64_t r) {
  Kept& place = kept_.at({site.layer, site.stage});
  const int position = site.rows[static_cast<std::size_t>(r)].position;
  std::vector<double>& values = place.rows[position];
  values.resize(static_cast<std::size_t>(out.cols(r)));
  widen_row(out.dtype, out.row(r), out.cols(r), values.data());
  if (is_slots(site.stage)) place.slots[position].assign(out.row(r), out.row(r) + row_bytes(out.dtype, out.cols(r)));
}

void SubstitutingOps::put_right(const OpSite& site, const TensorView& out, std::int64_t r) {
  const audit::Contract contract{contract_, tensors_};
  const audit::Place place{site.stage, site.layer};
  const int position = site.rows[static_cast<std::size_t>(r)].position;
  const auto op = audit::op_of(contract, *this, place);
  audit::RightCase right;
  if (op && static_cast<std::size_t>(position) < tokens_.size())
    right = audit::right_case(contract, *this, *op, place, position, tokens_[static_cast<std::size_t>(position)]);
  if (!right.row) {
    ++left_;
    return;
  }
  if (op->op == audit::OpClass::quantize) return store(right.row->inputs[0], out.dtype, out.row(r));
  const audit::Estimate due = audit::estimate(*right.row, audit::arithmetic_of(route(site.stage, site.layer), *right.row));
  if (static_cast<std::int64_t>(due.value.size()) == out.cols(r)) return store(due.value, out.dtype, out.row(r));
  ++left_;
}

void SubstitutingOps::after(const OpSite& site, OpKind op, const TensorView& out) {
  if (!watches(site.layer)) return;
  kept(site, op, out.dtype);
  for (std::size_t r = 0; r < site.rows.size(); ++r) {
    if (site.rows[r].seq != 0) continue;
    if (chosen(site, site.rows[r].position)) put_right(site, out, static_cast<std::int64_t>(r));
    keep(site, out, static_cast<std::int64_t>(r));
  }
}

void SubstitutingOps::begin_step(const StepInfo& step, const RouteTable& routes) {
  routes_ = routes;
  inner_.begin_step(step, routes);
}

void SubstitutingOps::embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
                            TensorView out) {
  inner_.embed(site, table, tokens, scale, out);
  after(site, OpKind::embed, out);
}

void SubstitutingOps::rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) {
  inner_.rmsnorm(site, x, weight, eps, out);
  after(site, OpKind::rmsnorm, out);
}

void SubstitutingOps::matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
                             TensorView out) {
  inner_.matmul(site, x, weight, bias, out);
  after(site, OpKind::matmul, out);
}

void SubstitutingOps::rope(const OpSite& site, const TensorView& x, const RopeParams& params,
                           std::span<const std::int32_t> positions, TensorView out) {
  inner_.rope(site, x, params, positions, out);
  after(site, OpKind::rope, out);
}

void SubstitutingOps::qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv, TensorView out) {
  inner_.qk(site, q, params, kv, out);
  keep_earlier_slots(site, KvPart::k, kv);
  after(site, OpKind::qk, out);
}

void SubstitutingOps::softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) {
  inner_.softmax(site, scores, params, out);
  after(site, OpKind::softmax, out);
}

void SubstitutingOps::pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv,
                         TensorView out) {
  inner_.pv(site, probs, params, kv, out);
  keep_earlier_slots(site, KvPart::v, kv);
  after(site, OpKind::pv, out);
}

void SubstitutingOps::add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) {
  inner_.add(site, a, b, out);
  after(site, OpKind::add, out);
}

void SubstitutingOps::act_mul(const OpSite& site, Activation act, const TensorView& gate, const TensorView& up,
                              TensorView out) {
  inner_.act_mul(site, act, gate, up, out);
  after(site, OpKind::act_mul, out);
}

void SubstitutingOps::softcap(const OpSite& site, const TensorView& x, double cap, TensorView out) {
  inner_.softcap(site, x, cap, out);
  after(site, OpKind::softcap, out);
}

void SubstitutingOps::quantize(const OpSite& site, const TensorView& x, TensorView out) {
  inner_.quantize(site, x, out);
  after(site, OpKind::quantize, out);
}

/// Slots that were filled before the substitution began, as attention finds them.
void SubstitutingOps::keep_earlier_slots(const OpSite& site, KvPart part, KvView& kv) {
  if (!watches(site.layer)) return;
  Kept& place = kept_[{site.layer, part == KvPart::k ? Stage::k_cache : Stage::v_cache}];
  place.dtype = kv.dtype();
  place.op = OpKind::kv_write;
  int last = -1;
  for (const RowId& row : site.rows)
    if (row.seq == 0) last = std::max(last, row.position);
  for (int p = 0; p <= last; ++p) {
    std::vector<double>& values = place.rows[p];
    if (!values.empty()) continue;
    values.resize(static_cast<std::size_t>(kv.width()));
    widen_row(kv.dtype(), kv.read_slot(part, site.layer, {0, p}), kv.width(), values.data());
  }
}

/// Slots of earlier positions that are chosen and are not what was written there.
void SubstitutingOps::restore_slots(const OpSite& site, KvPart part, KvView& kv) {
  const int first = site.rows.front().position;
  for (const auto& [position, bytes] : kept_.at({site.layer, site.stage}).slots)
    if (position < first && chosen(site, position))
      std::memcpy(kv.write_slot(part, site.layer, {0, position}), bytes.data(), bytes.size());
}

void SubstitutingOps::kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView& kv) {
  inner_.kv_write(site, x, part, kv);
  if (!watches(site.layer)) return;
  kept(site, OpKind::kv_write, kv.dtype());
  for (const RowId& row : site.rows) {
    if (row.seq != 0) continue;
    TensorView slot;
    slot.data = kv.write_slot(part, site.layer, row);
    slot.dtype = kv.dtype();
    slot.n_rows = 1;
    slot.n_cols = kv.width();
    const OpSite one{site.stage, site.layer, {&row, 1}};
    if (chosen(site, row.position)) put_right(one, slot, 0);
    keep(one, slot, 0);
  }
  restore_slots(site, part, kv);
}

void SubstitutingOps::kv_shift(const OpSite& site, const KvShift& shift, KvView& kv) {
  inner_.kv_shift(site, shift, kv);
  kept_.clear();  // rows of positions that now have other names
}

TensorView SubstitutingOps::handoff(const OpSite& site, const TensorView& x) {
  TensorView out = inner_.handoff(site, x);
  if (!watches(site.layer)) return out;
  const bool any = std::any_of(site.rows.begin(), site.rows.end(),
                               [&](const RowId& row) { return row.seq == 0 && chosen(site, row.position); });
  if (any) {  // the producer's buffer stays as it is
    std::vector<std::byte>& copy = handed_[turn_++ % handed_.size()];
    const std::int64_t stride = row_bytes(out.dtype, out.n_cols);
    copy.resize(static_cast<std::size_t>(stride * out.n_rows));
    for (std::int64_t r = 0; r < out.n_rows; ++r)
      std::memcpy(copy.data() + r * stride, out.row(r), static_cast<std::size_t>(stride));
    out.data = copy.data();
    out.row_stride = stride;
    out.extents = {};
  }
  after(site, OpKind::add, out);
  return out;
}

}  // namespace greta::cli
