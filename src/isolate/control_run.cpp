#include "isolate/control_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "core/half.h"
#include "trace/fingerprint.h"

namespace greta::isolate {
namespace {

/// Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators": splitmix64.
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}
  std::uint64_t next() {
    std::uint64_t z = (state_ += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }
  std::size_t below(std::size_t n) { return static_cast<std::size_t>(next() % n); }

 private:
  std::uint64_t state_;
};

/// Element `index` of a slice, one step of the stored type away from zero. A step of q8_0 is one of the code: the block's
/// scale, which its largest element tells, as that has the code 127 or -127.
double ulp_away(const std::vector<double>& sample, std::size_t index, DType dtype) {
  const double x = index < sample.size() ? sample[index] : 0;
  switch (dtype) {
    case DType::q8_0: {
      const auto block = static_cast<std::size_t>(dtype_info(dtype).block_elems);
      const std::size_t first = index / block * block;
      double largest = 0;
      for (std::size_t i = first; i < std::min(first + block, sample.size()); ++i)
        largest = std::max(largest, std::abs(sample[i]));
      return x + std::copysign(largest / 127, x);
    }
    case DType::f64:
      return std::nextafter(x, std::copysign(HUGE_VAL, x));
    case DType::f16:
      return f16_to_f32(static_cast<std::uint16_t>(f32_to_f16(static_cast<float>(x)) + 1));
    case DType::bf16:
      return bf16_to_f32(static_cast<std::uint16_t>(f32_to_bf16(static_cast<float>(x)) + 1));
    default:
      break;  // computed as f32
  }
  const auto single = static_cast<float>(x);
  return std::nextafter(single, std::copysign(HUGE_VALF, single));
}

bool usable(double x) { return std::isfinite(x) && std::abs(x) > 1e-4 && std::abs(x) < 1e4; }

/// A seeded element of the slice that a perturbation moves by a normal number; 0 without a slice. A sliding window may hide all
/// of a slice of scores, and no perturbation moves an infinity: then the key of the row's own token, for the first head.
std::int64_t choose_element(const StageRecord& record, Random& random) {
  const auto& sample = record.print.sample;
  if (sample.empty()) return 0;
  const std::size_t start = random.below(sample.size());
  for (std::size_t i = 0; i < sample.size(); ++i) {
    const std::size_t at = (start + i) % sample.size();
    if (usable(sample[at])) return static_cast<std::int64_t>(at);
  }
  const auto larger = [](double x, double y) {
    return (std::isfinite(x) ? std::abs(x) : 0) < (std::isfinite(y) ? std::abs(y) : 0);
  };
  const auto largest = std::max_element(sample.begin(), sample.end(), larger);
  const bool of_keys = record.stage == Stage::attn_scores || record.stage == Stage::attn_probs;
  if (of_keys && (!std::isfinite(*largest) || *largest == 0) && record.position < record.print.count) return record.position;
  return largest - sample.begin();
}

/// 4 times what the thresholds allow the row, and at least 2 ULP of the stored type, as less would be rounded away. Of a row
/// known by its statistics alone only the mean moves, by a count-th of it.
double delta_for(const StageRecord& record, std::int64_t index, const Thresholds& thresholds) {
  const Fingerprint& print = record.print;
  const bool absolute = record.stage == Stage::attn_probs || !(print.rms > 0);
  const auto count = static_cast<double>(std::max<std::int64_t>(print.count, 1));
  const double allowed = thresholds.rel * (absolute ? 1.0 : print.rms);
  if (print.sample.empty() && print.sketch.empty()) return 4 * allowed * count;
  const double size = 4 * allowed * std::sqrt(count);
  const double at = static_cast<std::size_t>(index) < print.sample.size() ? print.sample[static_cast<std::size_t>(index)] : 0;
  const double ulp = std::abs(ulp_away(print.sample, static_cast<std::size_t>(index), record.dtype.value_or(DType::f32)) - at);
  return std::copysign(std::max(size, 2 * ulp), at);
}

struct Candidate {
  std::size_t ground = 0;
  const RecordPair* pair = nullptr;
};

bool can_hold_control(const RecordPair& pair) {
  const Fingerprint& b = pair.b->print;
  return !pair.reread && b.nan == 0 && b.count > 0 && b.zero < b.count;
}

/// The pairs of a stage in which a control may be planted: of decode steps; where nothing was decoded (captures of prefills
/// only), any.
std::vector<Candidate> candidates(const std::vector<ControlGround>& grounds, Stage stage) {
  std::vector<Candidate> decoded, any;
  bool decodes = false;
  for (std::size_t g = 0; g < grounds.size(); ++g) {
    for (const RecordPair& pair : *grounds[g].pairs) {
      decodes = decodes || pair.b->phase == Phase::decode;
      if (pair.b->stage != stage || !can_hold_control(pair)) continue;
      any.push_back({g, &pair});
      if (pair.b->phase == Phase::decode) decoded.push_back({g, &pair});
    }
  }
  return decodes ? decoded : any;
}

/// What the row of a control's run must equal if nothing reached it: arm A's row of the key or, of arm B's own, the one of the
/// latest step up to the row's (a KV slot may have changed between steps).
const StageRecord* expected_row(const StageRecord& row, const RecordIndex& reference, bool own) {
  const auto all = reference.all(key_of(row));
  const StageRecord* expected = nullptr;
  for (const StageRecord* record : all)
    if (expected == nullptr || (own && record->step <= row.step && record->step >= expected->step)) expected = record;
  return expected;
}

}  // namespace

StageRecord altered(const StageRecord& record, const ControlSpec& spec) {
  StageRecord copy = record;
  Fingerprint& print = copy.print;
  const auto index = static_cast<std::size_t>(spec.index);
  double moved = spec.delta.value_or(0);
  if (index < print.sample.size()) {
    const double was = print.sample[index];
    print.sample[index] = spec.ulps ? ulp_away(print.sample, index, record.dtype.value_or(DType::f32)) : was + moved;
    moved = print.sample[index] - was;
  }
  if (!print.sketch.empty()) {
    const SketchPlace place = sketch_place(spec.index);
    print.sketch[static_cast<std::size_t>(place.bucket) % print.sketch.size()] += place.sign * moved;
  }
  print.hash.lo += 0x9e3779b97f4a7c15u;
  print.mean += moved / static_cast<double>(std::max<std::int64_t>(print.count, 1));
  return copy;
}

std::vector<PlannedControl> plan_controls(const std::vector<ControlGround>& grounds, const Thresholds& thresholds,
                                          std::uint64_t seed) {
  std::vector<PlannedControl> plan;
  for (const Stage stage : all_stages()) {
    const std::vector<Candidate> places = candidates(grounds, stage);
    if (places.empty()) continue;
    Random random(seed * 0x100000001b3u + static_cast<std::uint64_t>(stage));
    random.next();
    const Candidate& chosen = places[random.below(places.size())];
    const ControlGround& ground = grounds[chosen.ground];
    const StageRecord& record = *chosen.pair->b;
    ControlSpec spec;
    spec.prompt_id = ground.pair->b.prompt_id;
    spec.stage = stage;
    spec.layer = record.layer;
    spec.position = record.position;
    spec.index = choose_element(record, random);
    if (ground.bit_equality) {
      spec.ulps = 1;
    } else {
      spec.delta = delta_for(record, spec.index, thresholds);
    }
    plan.push_back({chosen.ground, spec});
  }
  std::stable_sort(plan.begin(), plan.end(),
                   [](const PlannedControl& left, const PlannedControl& right) { return left.ground < right.ground; });
  return plan;
}

ControlResult run_control(const ControlSpec& spec, const ControlGround& ground, const Thresholds& thresholds,
                          const ControlRunner& run, const Comparator& comparator) {
  ControlResult result;
  result.spec = spec;
  result.in_memory = !run;
  result.met = ground.arms_differ ? "b" : "a";
  result.where = "nothing";
  const RecordIndex& reference = ground.arms_differ ? *ground.in_b : *ground.in_a;
  const Key at{spec.position, once_per_token(spec.stage) ? kAfterLayers : spec.layer, spec.stage};

  Capture perturbed;
  if (run) {
    perturbed = run(spec);
  } else {
    for (const StageRecord* record : ground.in_b->records())
      if (record->position == spec.position && !record->reread)
        perturbed.records.push_back(key_of(*record) == at ? altered(*record, spec) : *record);
  }
  std::vector<const StageRecord*> rows;
  for (const StageRecord& record : perturbed.records)
    if (record.exposure == Exposure::exposed) rows.push_back(&record);
  std::stable_sort(rows.begin(), rows.end(), [](const StageRecord* left, const StageRecord* right) {
    const auto order = [](const StageRecord* r) { return std::tuple(key_of(*r).layer, r->stage, r->position); };
    return order(left) < order(right);
  });
  for (const StageRecord* row : rows) {
    const StageRecord* other = expected_row(*row, reference, ground.arms_differ);
    if (other == nullptr || other->exposure != Exposure::exposed) continue;
    const Difference d = comparator(*other, *row);
    if (d.bit_equal || (!ground.bit_equality && !above(thresholds, row->stage, d))) continue;
    result.found = key_of(*row) == at;
    result.where = place(row->stage, row->layer, row->position);
    break;
  }
  return result;
}

std::optional<ControlResult> run_local_control(const ControlSpec& spec, const LocalControlRunner& run) {
  const std::optional<LocalControl> control = run(spec);
  if (!control) return std::nullopt;
  ControlResult result;
  result.spec = control->spec;
  result.met = "bound";
  result.where = "nothing";
  if (control->guilty.empty()) return result;
  const LocalFinding& first = control->guilty.front();
  result.found =
      first.stage == spec.stage && first.position == spec.position && (first.layer == spec.layer || once_per_token(spec.stage));
  result.where = place(first.stage, first.layer, first.position);
  return result;
}

std::string ControlSpec::magnitude() const {
  if (ulps) return fmt::format("{} ulp", *ulps);
  return fmt::format("{:+.3g}", delta.value_or(0));
}

}  // namespace greta::isolate
