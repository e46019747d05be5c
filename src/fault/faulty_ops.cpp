#include "fault/faulty_ops.h"

#include <algorithm>
#include <cstring>
#include <deque>
#include <limits>
#include <numeric>
#include <optional>

#include "core/error.h"
#include "fault/spoil.h"

namespace greta {

/// How the op computes otherwise than it should, for some rows.
struct FaultyOps::Variation {
  const KeptRow* stale = nullptr;
  std::optional<double> eps;
  bool transposed = false;
  std::int32_t rope_delta = 0;
  std::int32_t slot_delta = 0;
  friend bool operator==(const Variation&, const Variation&) = default;
  bool healthy() const { return *this == Variation{}; }
};

/// Some rows of a call, as views over the same memory.
class FaultyOps::RowPick {
 public:
  RowPick(const OpSite& site, std::vector<std::int64_t> indices) : indices_(std::move(indices)) {
    for (const std::int64_t r : indices_) rows_.push_back(site.rows[static_cast<std::size_t>(r)]);
    site_ = {site.stage, site.layer, rows_};
  }
  const OpSite& site() const { return site_; }

  TensorView operator()(const TensorView& whole) {
    auto& extents = extents_.emplace_back();
    auto& ids = ids_.emplace_back();
    for (const std::int64_t r : indices_) {
      extents.push_back({whole.row(r) - whole.data, whole.cols(r)});
      if (!whole.rows.empty()) ids.push_back(whole.rows[static_cast<std::size_t>(r)]);
    }
    return with(whole, extents, ids);
  }

  /// The picked rows of `whole`, or as many times the kept row.
  TensorView input(const Variation& variation, const TensorView& whole) {
    if (variation.stale == nullptr) return (*this)(whole);
    const KeptRow& kept = *variation.stale;
    for (const std::int64_t r : indices_)
      if (whole.cols(r) != kept.cols)
        fail("fault stale-input: {} reads {} elements a row, but the row kept from {} has {}; choose another from=",
             name(site_.stage), whole.cols(r), name(kept.origin.stage), kept.cols);
    auto& extents = extents_.emplace_back(indices_.size(), RowExtent{0, kept.cols});
    auto& ids = ids_.emplace_back(indices_.size(), kept.token);
    TensorView view = whole;
    view.data = const_cast<std::byte*>(kept.bytes.data());  // read by the op, never written
    view.dtype = kept.dtype;
    view.origin = kept.origin;
    return with(view, extents, ids);
  }

  std::vector<std::int32_t> positions(std::span<const std::int32_t> whole, std::int32_t delta) const {
    std::vector<std::int32_t> picked;
    for (const std::int64_t r : indices_) picked.push_back(whole[static_cast<std::size_t>(r)] + delta);
    return picked;
  }

 private:
  TensorView with(TensorView view, std::span<const RowExtent> extents, std::span<const RowId> ids) const {
    view.n_rows = static_cast<std::int64_t>(indices_.size());
    view.n_cols = 0;
    for (const RowExtent& extent : extents) view.n_cols = std::max(view.n_cols, extent.cols);
    view.extents = extents;
    view.rows = ids;
    return view;
  }

  std::vector<std::int64_t> indices_;
  std::vector<RowId> rows_;
  OpSite site_;
  std::deque<std::vector<RowExtent>> extents_;
  std::deque<std::vector<RowId>> ids_;
};

namespace {

std::vector<std::byte> copy_rows(const TensorView& view) {
  std::vector<std::byte> bytes;
  for (std::int64_t r = 0; r < view.n_rows; ++r)
    bytes.insert(bytes.end(), view.row(r), view.row(r) + row_bytes(view.dtype, view.cols(r)));
  return bytes;
}

/// Where writes go when slots are shifted; before slot 0 they go nowhere.
class ShiftedKv final : public KvView {
 public:
  ShiftedKv(KvView& inner, std::int32_t delta)
      : inner_(inner), delta_(delta), nowhere_(static_cast<std::size_t>(row_bytes(inner.dtype(), inner.width()))) {}
  DType dtype() const override { return inner_.dtype(); }
  std::int64_t width() const override { return inner_.width(); }
  std::byte* write_slot(KvPart part, int layer, RowId token) override {
    if (token.position + delta_ < 0) return nowhere_.data();
    return inner_.write_slot(part, layer, {token.seq, token.position + delta_});
  }
  const std::byte* read_slot(KvPart part, int layer, RowId token) override { return inner_.read_slot(part, layer, token); }

 private:
  KvView& inner_;
  std::int32_t delta_;
  std::vector<std::byte> nowhere_;
};

/// A cache of the call's own slots, to learn what a healthy write stores.
class ScratchKv final : public KvView {
 public:
  explicit ScratchKv(const KvView& like) : dtype_(like.dtype()), width_(like.width()) {}
  DType dtype() const override { return dtype_; }
  std::int64_t width() const override { return width_; }
  std::byte* write_slot(KvPart, int, RowId token) override {
    auto& slot = slots_[{token.seq, token.position}];
    slot.resize(static_cast<std::size_t>(row_bytes(dtype_, width_)));
    return slot.data();
  }
  const std::byte* read_slot(KvPart part, int layer, RowId token) override { return write_slot(part, layer, token); }

 private:
  DType dtype_;
  std::int64_t width_;
  std::map<std::pair<std::int32_t, std::int32_t>, std::vector<std::byte>> slots_;
};

}  // namespace

FaultyOps::FaultyOps(Ops& inner, std::vector<FaultSpec> faults, std::int32_t n_layers, std::int32_t n_prompt)
    : inner_(inner), faults_(std::move(faults)), n_layers_(n_layers), n_prompt_(n_prompt) {}

void FaultyOps::set_faults(std::vector<FaultSpec> faults) {
  faults_ = std::move(faults);
  memory_ = {};
}

void FaultyOps::begin_step(const StepInfo& step, const RouteTable& routes) {
  phase_ = step.phase;
  handed_.clear();
  inner_.begin_step(step, routes);
}

bool FaultyOps::selects(const FaultSpec& fault, const OpSite& site) const {
  return fault.matches(phase_, site.layer, site.stage, n_layers_);
}

bool FaultyOps::selects_row(const FaultSpec& fault, RowId row) const {
  if (!fault.position) return true;
  return row.position == (*fault.position < 0 ? n_prompt_ - 1 : *fault.position);
}

bool FaultyOps::any_at(const OpSite& site) const {
  return std::any_of(faults_.begin(), faults_.end(), [&](const FaultSpec& fault) { return selects(fault, site); });
}

std::vector<std::pair<FaultyOps::Variation, std::vector<std::int64_t>>> FaultyOps::groups(const OpSite& site) const {
  std::vector<std::pair<Variation, std::vector<std::int64_t>>> grouped;
  for (std::size_t r = 0; r < site.rows.size(); ++r) {
    Variation variation;
    for (std::size_t f = 0; f < faults_.size(); ++f) {
      const FaultSpec& fault = faults_[f];
      if (!selects(fault, site) || !selects_row(fault, site.rows[r])) continue;
      if (fault.kind == FaultKind::rmsnorm_epsilon) variation.eps = fault.eps;
      if (fault.kind == FaultKind::weight_transposed) variation.transposed = true;
      if (fault.kind == FaultKind::rope_position) variation.rope_delta += fault.delta;
      if (fault.kind == FaultKind::kv_slot_shift) variation.slot_delta += fault.delta;
      if (fault.kind == FaultKind::stale_input)
        if (const auto kept = memory_.kept.find({f, site.layer, site.rows[r].seq}); kept != memory_.kept.end())
          variation.stale = &kept->second;
    }
    if (variation.healthy()) continue;
    const auto same = std::find_if(grouped.begin(), grouped.end(), [&](const auto& group) { return group.first == variation; });
    auto& rows = same != grouped.end() ? same->second : grouped.emplace_back(variation, std::vector<std::int64_t>{}).second;
    rows.push_back(static_cast<std::int64_t>(r));
  }
  return grouped;
}

template <class Call>
void FaultyOps::vary(const OpSite& site, TensorView out, Call&& call) {
  std::vector<std::int64_t> every(site.rows.size());
  std::iota(every.begin(), every.end(), std::int64_t{0});
  RowPick whole(site, every);
  call(whole, Variation{});
  for (auto& [variation, rows] : groups(site)) {
    RowPick pick(site, rows);
    const std::vector<std::byte> before = copy_rows(pick(out));
    call(pick, variation);
    memory_.effects += changed_elements(before, copy_rows(pick(out)), out.dtype);
  }
  spoil_output(site, out);
  keep(site, out);
}

void FaultyOps::spoil_element(const FaultSpec& fault, std::byte* row, DType dtype, std::int64_t cols) {
  if (fault.index >= cols)
    fail("fault {}: the row has {} elements", to_string(fault), cols);
  memory_.effects += spoil(fault, row, fault.index, dtype);
}

void FaultyOps::spoil_output(const OpSite& site, const TensorView& out) {
  for (const FaultSpec& fault : faults_) {
    if ((fault.kind != FaultKind::perturb && fault.kind != FaultKind::nan) || !selects(fault, site)) continue;
    for (std::size_t r = 0; r < site.rows.size(); ++r) {
      const auto row = static_cast<std::int64_t>(r);
      if (selects_row(fault, site.rows[r])) spoil_element(fault, out.row(row), out.dtype, out.cols(row));
    }
  }
}

void FaultyOps::keep(const OpSite& site, const TensorView& out) {
  for (std::size_t f = 0; f < faults_.size(); ++f) {
    const FaultSpec& fault = faults_[f];
    if (fault.kind != FaultKind::stale_input || fault.from != site.stage) continue;
    for (std::size_t r = 0; r < site.rows.size(); ++r) {
      if (site.rows[r].position != fault.row) continue;
      const auto row = static_cast<std::int64_t>(r);
      KeptRow& kept = memory_.kept[{f, site.layer, site.rows[r].seq}];
      kept.cols = out.cols(row);
      kept.dtype = out.dtype;
      kept.bytes.assign(out.row(row), out.row(row) + row_bytes(out.dtype, kept.cols));
      kept.token = site.rows[r];
      kept.origin = out.origin;
    }
  }
}

void FaultyOps::embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, TensorView out) {
  inner_.embed(site, table, tokens, out);
  spoil_output(site, out);
  keep(site, out);
}

void FaultyOps::rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) {
  vary(site, out, [&](RowPick& pick, const Variation& v) {
    inner_.rmsnorm(pick.site(), pick.input(v, x), weight, v.eps.value_or(eps), pick(out));
  });
}

void FaultyOps::matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
                       TensorView out) {
  WeightView transposed = weight;
  transposed.layout = WeightLayout::transposed;
  vary(site, out, [&](RowPick& pick, const Variation& v) {
    inner_.matmul(pick.site(), pick.input(v, x), v.transposed ? transposed : weight, bias, pick(out));
  });
}

void FaultyOps::rope(const OpSite& site, const TensorView& x, const RopeParams& params,
                     std::span<const std::int32_t> positions, TensorView out) {
  vary(site, out, [&](RowPick& pick, const Variation& v) {
    inner_.rope(pick.site(), pick.input(v, x), params, pick.positions(positions, v.rope_delta), pick(out));
  });
}

void FaultyOps::kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView& kv) {
  const auto faulty = groups(site);
  std::set<std::int64_t> wrong;
  for (const auto& [variation, rows] : faulty) wrong.insert(rows.begin(), rows.end());
  std::vector<std::int64_t> right;
  for (std::int64_t r = 0; r < x.n_rows; ++r)
    if (!wrong.contains(r)) right.push_back(r);
  if (!right.empty()) {
    RowPick pick(site, right);
    inner_.kv_write(pick.site(), pick(x), part, kv);
  }
  for (const auto& [variation, rows] : faulty) {
    RowPick pick(site, rows);
    ScratchKv healthy(kv);
    inner_.kv_write(pick.site(), pick(x), part, healthy);
    ShiftedKv shifted(kv, variation.slot_delta);
    inner_.kv_write(pick.site(), pick.input(variation, x), part, shifted);
    const auto bytes = static_cast<std::size_t>(row_bytes(kv.dtype(), kv.width()));
    for (const RowId& row : pick.site().rows) {
      const std::byte* is = kv.read_slot(part, site.layer, row);
      const std::byte* should = healthy.read_slot(part, site.layer, row);
      memory_.effects += changed_elements({is, is + bytes}, {should, should + bytes}, kv.dtype());
    }
  }
  for (const FaultSpec& fault : faults_) {
    if ((fault.kind != FaultKind::perturb && fault.kind != FaultKind::nan) || !selects(fault, site)) continue;
    for (const RowId& row : site.rows)
      if (selects_row(fault, row)) spoil_element(fault, kv.write_slot(part, site.layer, row), kv.dtype(), kv.width());
  }
  spoil_earlier_slots(site, part, kv);
}

/// A fault at a slot that an earlier step filled: spoiled once, before this step's attention reads it.
void FaultyOps::spoil_earlier_slots(const OpSite& site, KvPart part, KvView& kv) {
  for (std::size_t f = 0; f < faults_.size(); ++f) {
    const FaultSpec& fault = faults_[f];
    if ((fault.kind != FaultKind::perturb && fault.kind != FaultKind::nan) || !selects(fault, site) || !fault.position) continue;
    const RowId first = site.rows.front();
    const RowId slot{first.seq, *fault.position < 0 ? n_prompt_ - 1 : *fault.position};
    if (slot.position >= first.position) continue;
    if (!memory_.slots_done.insert({f, site.layer, site.stage}).second) continue;
    spoil_element(fault, kv.write_slot(part, site.layer, slot), kv.dtype(), kv.width());
  }
}

void FaultyOps::kv_shift(const OpSite& site, const KvShift& shift, KvView& kv) { inner_.kv_shift(site, shift, kv); }

void FaultyOps::qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv, TensorView out) {
  vary(site, out, [&](RowPick& pick, const Variation& v) {
    inner_.qk(pick.site(), pick.input(v, q), params, kv, pick(out));
  });
}

void FaultyOps::softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) {
  vary(site, out, [&](RowPick& pick, const Variation& v) {
    inner_.softmax(pick.site(), pick.input(v, scores), params, pick(out));
  });
}

void FaultyOps::pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv, TensorView out) {
  vary(site, out, [&](RowPick& pick, const Variation& v) {
    inner_.pv(pick.site(), pick.input(v, probs), params, kv, pick(out));
  });
}

void FaultyOps::add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) {
  vary(site, out, [&](RowPick& pick, const Variation& v) {
    inner_.add(pick.site(), pick(a), pick.input(v, b), pick(out));
  });
}

void FaultyOps::silu_mul(const OpSite& site, const TensorView& gate, const TensorView& up, TensorView out) {
  vary(site, out, [&](RowPick& pick, const Variation& v) {
    inner_.silu_mul(pick.site(), pick.input(v, gate), pick(up), pick(out));
  });
}

void FaultyOps::quantize(const OpSite& site, const TensorView& x, TensorView out) {
  vary(site, out, [&](RowPick& pick, const Variation& v) { inner_.quantize(pick.site(), pick.input(v, x), pick(out)); });
}

/// A wrong hand-over leaves the producer's buffer as it is and hands the reader another one.
TensorView FaultyOps::handoff(const OpSite& site, const TensorView& x) {
  TensorView handed = inner_.handoff(site, x);
  if (any_at(site)) {
    std::vector<std::byte>& copy = handed_.emplace_back(copy_rows(handed));
    TensorView own = handed;
    own.data = copy.data();
    own.extents = {};
    own.row_stride = row_bytes(handed.dtype, handed.n_cols);
    for (auto& [variation, rows] : groups(site)) {
      RowPick pick(site, rows);
      const TensorView served = pick.input(variation, handed);
      const TensorView target = pick(own);
      const std::vector<std::byte> before = copy_rows(target);
      for (std::int64_t r = 0; r < target.n_rows; ++r)
        std::memcpy(target.row(r), served.row(r), static_cast<std::size_t>(row_bytes(own.dtype, own.n_cols)));
      memory_.effects += changed_elements(before, copy_rows(target), own.dtype);
    }
    spoil_output(site, own);
    handed = own;
  }
  keep(site, handed);
  return handed;
}

}  // namespace greta
