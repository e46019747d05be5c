#include "fault/faulty_ops.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/quote.h"
#include "fault/kv_views.h"
#include "fault/spoil.h"

namespace greta {
namespace {

/// The slots of the call's tokens, as they are in the cache.
TensorView slots_of(const OpCall& call, KvView& kv, Arena& arena) {
  auto& extents = arena.extents.emplace_back();
  TensorView view;
  for (const RowId& row : call.site.rows) {
    std::byte* slot = kv.write_slot(call.part, call.site.layer, row);
    if (view.data == nullptr) view.data = slot;
    extents.push_back({slot - view.data, kv.width()});
  }
  view.dtype = kv.dtype();
  view.n_rows = static_cast<std::int64_t>(extents.size());
  view.n_cols = kv.width();
  view.extents = extents;
  view.rows = call.site.rows;
  return view;
}

}  // namespace

FaultyOps::FaultyOps(Ops& inner, Ops& kernel, const FaultTarget& target, std::vector<FaultSpec> faults)
    : inner_(inner), kernel_(kernel), target_(target), faults_(std::move(faults)) {
  for (const FaultSpec& fault : faults_) check_fault(fault, target_);
}

void FaultyOps::set_faults(std::vector<FaultSpec> faults) {
  faults_ = std::move(faults);
  memory_ = {};
  altered_ = {};
}

void FaultyOps::begin_step(const StepInfo& step, const RouteTable& routes) {
  phase_ = step.phase;
  handed_ = {};
  for (auto& [fault, rows] : memory_.kept)
    if (!faults_[fault].kind->keep_across_steps) rows.clear();
  inner_.begin_step(step, routes);
}

bool FaultyOps::selects(const FaultSpec& fault, const OpSite& site) const {
  return fault.matches(phase_, site.layer, site.stage, target_.n_layers());
}

bool FaultyOps::selects_row(const FaultSpec& fault, RowId row) const {
  if (!fault.position) return true;
  return row.position == (*fault.position < 0 ? target_.n_prompt - 1 : *fault.position);
}

std::vector<FaultyOps::Group> FaultyOps::groups(const OpSite& site) const {
  std::vector<std::size_t> here;
  for (std::size_t f = 0; f < faults_.size(); ++f)
    if (selects(faults_[f], site)) here.push_back(f);
  std::vector<Group> grouped;
  for (std::size_t r = 0; r < site.rows.size() && !here.empty(); ++r) {
    Group wanted{{}, site.rows[r].seq, {}};
    for (const std::size_t f : here)
      if (selects_row(faults_[f], site.rows[r])) wanted.faults.push_back(f);
    if (wanted.faults.empty()) continue;
    auto same = std::find_if(grouped.begin(), grouped.end(),
                             [&](const Group& group) { return group.faults == wanted.faults && group.seq == wanted.seq; });
    if (same == grouped.end()) same = grouped.insert(grouped.end(), std::move(wanted));
    same->rows.push_back(static_cast<std::int64_t>(r));
  }
  return grouped;
}

void FaultyOps::run_whole(const OpCall& whole) {
  run(inner_, whole);
  make_wrong(whole, groups(whole.site));
  keep(whole.site, whole.out);
}

void FaultyOps::make_wrong(const OpCall& whole, const std::vector<Group>& groups) {
  for (const Group& group : groups) make_wrong(whole, group);
}

/// Of several faults at one place, each one's effect is what would be otherwise without it.
void FaultyOps::make_wrong(const OpCall& whole, const Group& group) {
  Arena arena;
  const TensorView out = pick_rows(whole.out, group.rows, arena);
  const std::vector<std::byte> healthy = copy_rows(out);
  std::vector<std::vector<std::byte>> without;
  for (const std::size_t f : group.faults) {
    Group others = group;
    std::erase(others.faults, f);
    if (!others.faults.empty()) {
      WrongCall call(whole, group.rows, arena, kernel_, target_, altered_);
      run_wrong(call, others);
    }
    without.push_back(copy_rows(out));
    put_rows(out, healthy);
  }
  WrongCall call(whole, group.rows, arena, kernel_, target_, altered_);
  run_wrong(call, group);
  const std::vector<std::byte> all = copy_rows(out);
  for (std::size_t i = 0; i < group.faults.size(); ++i)
    memory_.effects[group.faults[i]] += changed_elements(without[i], all, out.dtype);
}

std::vector<std::int64_t> FaultyOps::effects_by_fault() const {
  std::vector<std::int64_t> counts(faults_.size());
  for (const auto& [fault, count] : memory_.effects) counts[fault] = count;
  return counts;
}

std::int64_t FaultyOps::effects() const {
  const std::vector<std::int64_t> counts = effects_by_fault();
  return std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
}

void FaultyOps::run_wrong(WrongCall& call, const Group& group) {
  bool again = call.op == OpKind::kv_write || call.op == OpKind::kv_shift;
  for (const std::size_t f : group.faults) {
    call.fault = f;
    call.kept_rows = &memory_.kept[f];
    faults_[f].kind->plant(faults_[f], call);
    again = again || faults_[f].kind->shows == ShowsIn::operand;
  }
  if (again) call.op ? run(inner_, call) : run(kernel_, call);  // a handoff is no kernel's
  if (call.computations.size() > 1)
    fail("faults {} and {} both replace the computation of {} in layer {}; plant them at different places",
         quote(to_string(*call.computations[0].first)), quote(to_string(*call.computations[1].first)), name(call.site.stage),
         call.site.layer);
  for (const auto& [fault, compute] : call.computations) compute();
  for (const auto& spoil : call.afterwards) spoil();
}

void FaultyOps::keep(const OpSite& site, const TensorView& out) {
  for (std::size_t f = 0; f < faults_.size(); ++f) {
    if (faults_[f].kind->keep == nullptr) continue;
    for (std::size_t r = 0; r < site.rows.size(); ++r) {
      const auto key = faults_[f].kind->keep(faults_[f], target_, site, r);
      if (!key) continue;
      const auto row = static_cast<std::int64_t>(r);
      KeptRow& kept = memory_.kept[f][*key];
      kept.cols = out.cols(row);
      kept.dtype = out.dtype;
      kept.bytes.assign(out.row(row), out.row(row) + row_bytes(out.dtype, kept.cols));
      kept.token = site.rows[r];
      kept.origin = out.origin;
    }
  }
}

void FaultyOps::embed(const OpSite& site, const WeightView& table, std::span<const std::int32_t> tokens, double scale,
                      TensorView out) {
  run_whole({.op = OpKind::embed, .site = site, .weight = table, .tokens = tokens, .scale = scale, .out = out});
}

void FaultyOps::rmsnorm(const OpSite& site, const TensorView& x, const WeightView& weight, double eps, TensorView out) {
  run_whole({.op = OpKind::rmsnorm, .site = site, .x = x, .weight = weight, .eps = eps, .out = out});
}

void FaultyOps::matmul(const OpSite& site, const TensorView& x, const WeightView& weight, const WeightView& bias,
                       TensorView out) {
  run_whole({.op = OpKind::matmul, .site = site, .x = x, .weight = weight, .bias = bias, .out = out});
}

void FaultyOps::rope(const OpSite& site, const TensorView& x, const RopeParams& params, std::span<const std::int32_t> positions,
                     TensorView out) {
  run_whole({.op = OpKind::rope, .site = site, .x = x, .positions = positions, .rope = params, .out = out});
}

void FaultyOps::qk(const OpSite& site, const TensorView& q, const AttentionParams& params, KvView& kv, TensorView out) {
  kv_ = &kv;
  run_whole({.op = OpKind::qk, .site = site, .x = q, .attention = params, .part = KvPart::k, .kv = &kv, .out = out});
}

void FaultyOps::softmax(const OpSite& site, const TensorView& scores, const AttentionParams& params, TensorView out) {
  run_whole({.op = OpKind::softmax, .site = site, .x = scores, .attention = params, .kv = kv_, .out = out});
}

void FaultyOps::pv(const OpSite& site, const TensorView& probs, const AttentionParams& params, KvView& kv, TensorView out) {
  run_whole({.op = OpKind::pv, .site = site, .x = probs, .attention = params, .part = KvPart::v, .kv = &kv, .out = out});
}

void FaultyOps::add(const OpSite& site, const TensorView& a, const TensorView& b, TensorView out) {
  run_whole({.op = OpKind::add, .site = site, .x = b, .second = a, .out = out});
}

void FaultyOps::act_mul(const OpSite& site, Activation act, const TensorView& gate, const TensorView& up, TensorView out) {
  run_whole({.op = OpKind::act_mul, .site = site, .x = gate, .second = up, .activation = act, .out = out});
}

void FaultyOps::softcap(const OpSite& site, const TensorView& x, double cap, TensorView out) {
  run_whole({.op = OpKind::softcap, .site = site, .x = x, .cap = cap, .out = out});
}

void FaultyOps::quantize(const OpSite& site, const TensorView& x, TensorView out) {
  run_whole({.op = OpKind::quantize, .site = site, .x = x, .out = out});
}

/// The cache is the output: rows with a fault are never written rightly first, or a write to another slot would leave no trace.
void FaultyOps::kv_write(const OpSite& site, const TensorView& x, KvPart part, KvView& kv) {
  const OpCall whole{.op = OpKind::kv_write, .site = site, .x = x, .part = part, .kv = &kv};
  const std::vector<Group> faulty = groups(site);
  std::set<std::int64_t> wrong;
  for (const Group& group : faulty) wrong.insert(group.rows.begin(), group.rows.end());
  std::vector<std::int64_t> right;
  for (std::int64_t r = 0; r < static_cast<std::int64_t>(site.rows.size()); ++r)
    if (!wrong.contains(r)) right.push_back(r);
  Arena arena;
  if (!right.empty()) run(inner_, pick_rows(whole, right, arena));
  for (const Group& group : faulty) {
    WrongCall call(whole, group.rows, arena, kernel_, target_, altered_);
    ScratchKv healthy(kv);
    OpCall scratch = call;
    scratch.kv = &healthy;
    run(kernel_, scratch);
    call.out = slots_of(call, kv, arena);
    run_wrong(call, group);
    const std::int64_t changed = changed_elements(copy_rows(slots_of(call, healthy, arena)), copy_rows(call.out), kv.dtype());
    for (const std::size_t f : group.faults) memory_.effects[f] += changed;
  }
  spoil_earlier_slots(site, part, kv);
}

/// All slots move at once and healthy; then the faulty ones move again, from where they were before.
void FaultyOps::kv_shift(const OpSite& site, const KvShift& shift, KvView& kv) {
  const OpCall whole{.op = OpKind::kv_shift, .site = site, .shift = shift, .part = shift.part, .kv = &kv};
  const std::vector<Group> faulty = groups(site);
  std::map<std::size_t, EarlierKv> before;
  for (std::size_t g = 0; g < faulty.size(); ++g) {
    EarlierKv& earlier = before.try_emplace(g, kv).first->second;
    for (const std::int64_t r : faulty[g].rows) {
      const RowId row = site.rows[static_cast<std::size_t>(r)];
      earlier.remember(shift.part, site.layer, row);
      earlier.remember(shift.part, site.layer, {row.seq, row.position - shift.delta});
    }
  }
  run(inner_, whole);
  for (std::size_t g = 0; g < faulty.size(); ++g) {
    Arena arena;
    WrongCall call(whole, faulty[g].rows, arena, kernel_, target_, altered_);
    call.kv = &before.at(g);
    call.out = slots_of(call, kv, arena);
    const std::vector<std::byte> healthy = copy_rows(call.out);
    run_wrong(call, faulty[g]);
    const std::int64_t changed = changed_elements(healthy, copy_rows(call.out), kv.dtype());
    for (const std::size_t f : faulty[g].faults) memory_.effects[f] += changed;
  }
}

/// A fault of an output at a slot that an earlier step filled: spoiled once, before this step's attention reads it.
void FaultyOps::spoil_earlier_slots(const OpSite& site, KvPart part, KvView& kv) {
  for (std::size_t f = 0; f < faults_.size(); ++f) {
    const FaultSpec& fault = faults_[f];
    if (fault.kind->shows != ShowsIn::output || !selects(fault, site) || !fault.position) continue;
    const RowId first = site.rows.front();
    const RowId slot{first.seq, *fault.position < 0 ? target_.n_prompt - 1 : *fault.position};
    if (slot.position >= first.position) continue;
    if (!memory_.slots_done.insert({f, site.layer, site.stage}).second) continue;
    Arena arena;
    const RowId rows[] = {slot};
    const OpCall whole{.op = OpKind::kv_write, .site = {site.stage, site.layer, rows}, .part = part, .kv = &kv};
    WrongCall call(whole, {0}, arena, kernel_, target_, altered_);
    call.out = slots_of(call, kv, arena);
    const std::vector<std::byte> before = copy_rows(call.out);
    call.fault = f;
    call.kept_rows = &memory_.kept[f];
    fault.kind->plant(fault, call);
    for (const auto& spoil : call.afterwards) spoil();
    memory_.effects[f] += changed_elements(before, copy_rows(call.out), kv.dtype());
  }
}

/// A wrong hand-over leaves the producer's buffer as it is and hands the reader another one.
TensorView FaultyOps::handoff(const OpSite& site, const TensorView& x) {
  TensorView handed = inner_.handoff(site, x);
  if (const std::vector<Group> faulty = groups(site); !faulty.empty()) {
    const OpCall whole{.op = std::nullopt, .site = site, .x = handed, .out = copy_of(handed, handed_)};
    make_wrong(whole, faulty);
    handed = whole.out;
  }
  keep(site, handed);
  return handed;
}

}  // namespace greta
