#include "audit/hypothesis.h"

#include <algorithm>
#include <cmath>

#include "audit/cause_classes.h"
#include "audit/local_error.h"

namespace greta::audit {
namespace {

constexpr std::size_t kMostExplained = 16;

double squared_distance(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    const double difference = a[i] - b[i];
    constexpr double kOtherKind = 1e100;  // a number where NaN or infinity stands, or the reverse
    sum += std::isfinite(difference) ? difference * difference : kOtherKind;
  }
  return sum;
}

}  // namespace

std::string Explained::text() const {
  std::string out = hypothesis;
  for (const auto& [key, value] : params) out += " " + key + "=" + value;
  return out;
}

std::vector<Hypothesis> all_hypotheses() {
  std::vector<Hypothesis> all;
  for (const auto family :
       {norm_hypotheses(), weight_hypotheses(), block_hypotheses(), quantisation_hypotheses(), rope_hypotheses(),
        attention_hypotheses(), mask_hypotheses(), softmax_hypotheses(), input_hypotheses(), residual_hypotheses(),
        slot_hypotheses(), output_hypotheses(), nan_hypotheses(), accumulation_hypotheses()})
    all.insert(all.end(), family.begin(), family.end());
  return all;
}

namespace {

/// A product of large matrices, for few of its outputs: what explains nothing of those is not worth computing whole.
class Screen {
 public:
  Screen(const Scene& scene, const Arithmetic& arithmetic) : scene_(scene), arithmetic_(arithmetic) {
    if (scene.right.op.op != OpClass::matmul || scene.right.matrix.n_out < 4 * kOutputs) return;
    step_ = scene.right.matrix.n_out / kOutputs;
    for (std::int64_t o = 0; o < kOutputs; ++o) actual_.push_back(scene.actual[static_cast<std::size_t>(o * step_)]);
    whole_ = squared_distance(few(scene.right), actual_);
  }

  bool passes(const RowCase& altered) const {
    return step_ == 0 || whole_ == 0 || squared_distance(few(altered), actual_) < kWorth * kWorth * whole_;
  }

 private:
  static constexpr std::int64_t kOutputs = 64;
  static constexpr double kWorth = 0.7;  // of the error left

  std::vector<double> few(const RowCase& row) const {
    RowCase some = row;
    some.matrix.n_out = kOutputs;
    some.matrix.row = [&row, step = step_](std::int64_t o, std::span<double> out) { row.matrix.row(o * step, out); };
    if (row.matrix.minima)
      some.matrix.minima = [&row, step = step_](std::int64_t o, std::span<double> out) { row.matrix.minima(o * step, out); };
    some.bias.clear();
    for (std::int64_t o = 0; o < kOutputs && !row.bias.empty(); ++o)
      some.bias.push_back(row.bias[static_cast<std::size_t>(o * step_)]);
    return estimate(some, arithmetic_).value;
  }

  const Scene& scene_;
  const Arithmetic& arithmetic_;
  std::int64_t step_ = 0;  // 0: everything is computed whole
  std::vector<double> actual_;
  double whole_ = 0;
};

/// Of an element's error, or of what the row's errors have in common, to its bound: the largest.
double worst_ratio(const LocalError& error) { return std::max({error.ratio, error.scale.ratio, error.offset.ratio}); }

/// Computes candidates and keeps what they explain.
class Search {
 public:
  Search(const Scene& scene, const Arithmetic& arithmetic)
      : scene_(scene),
        arithmetic_(arithmetic),
        screen_(scene, arithmetic),
        whole_(squared_distance(scene.due.value, scene.actual)),
        right_ratio_(worst_ratio(judge(scene.due, scene.actual))) {}

  void consider(Candidate candidate) {
    if (!candidate.after && !screen_.passes(candidate.altered)) return;
    Estimate due = estimate(candidate.altered, arithmetic_);
    if (candidate.after) candidate.after(due);
    if (due.value.size() != scene_.actual.size()) return;
    if (squared_distance(due.value, scene_.due.value) == 0) return;
    if (std::any_of(reproduced_.begin(), reproduced_.end(), [&](const auto& known) {
          return known.first == candidate.hypothesis && squared_distance(known.second, due.value) == 0;
        }))
      return;  // the same hypothesis and numbers, said otherwise
    Explained explained{std::move(candidate.hypothesis), std::move(candidate.params), false, 0};
    explained.distance = whole_ > 0 ? std::sqrt(squared_distance(due.value, scene_.actual) / whole_) : 0;
    explained.reproduces = reproduces(due);
    if (explained.reproduces) {
      note(explained);
      reproduced_.emplace_back(explained.hypothesis, std::move(due.value));
    }
    out_.push_back(std::move(explained));
  }
  bool found() const { return !reproduced_.empty(); }

  /// In the order that explain() promises.
  std::vector<Explained> result() && {
    const auto rank = [this](const Explained& one) {
      if (!one.reproduces) return std::pair(first_of_each_.size(), one.distance);
      const auto known = std::find_if(first_of_each_.begin(), first_of_each_.end(),
                                      [&](const First& first) { return first.hypothesis == one.hypothesis; });
      constexpr double kTimes = 2, kSmall = 0.02;  // as near, but for rounding: then the order says
      const double distance = one.distance <= std::max(kTimes * known->least, kSmall) ? 0.0 : one.distance;
      return std::pair(static_cast<std::size_t>(known - first_of_each_.begin()), distance);
    };
    std::stable_sort(out_.begin(), out_.end(), [&](const Explained& a, const Explained& b) { return rank(a) < rank(b); });
    // All that reproduce the row stay: one left out would make another the only one.
    const auto rest = std::find_if(out_.begin(), out_.end(), [](const Explained& one) { return !one.reproduces; });
    const auto kept = std::max(kMostExplained, static_cast<std::size_t>(rest - out_.begin()));
    if (out_.size() > kept) out_.resize(kept);
    return std::move(out_);
  }

 private:
  /// Within kTimesBound bounds, and much nearer than the right output in units of them.
  bool reproduces(Estimate& due) const {
    constexpr double kTimesBound = 4, kNearer = 2;
    for (auto* bounds : {&due.bound, &due.worst, &due.common})
      for (double& bound : *bounds) bound *= kTimesBound;
    const LocalError left = judge(due, scene_.actual);
    return !left.guilty() && kNearer * kTimesBound * worst_ratio(left) <= right_ratio_;
  }

  /// A hypothesis that reproduces the row, and its nearest candidate's distance.
  struct First {
    std::string hypothesis;
    double least;
  };
  void note(const Explained& reproducing) {
    const auto known = std::find_if(first_of_each_.begin(), first_of_each_.end(),
                                    [&](const First& first) { return first.hypothesis == reproducing.hypothesis; });
    if (known == first_of_each_.end()) {
      first_of_each_.push_back({reproducing.hypothesis, reproducing.distance});
    } else {
      known->least = std::min(known->least, reproducing.distance);
    }
  }

  const Scene& scene_;
  const Arithmetic& arithmetic_;
  Screen screen_;
  double whole_;
  double right_ratio_;
  std::vector<Explained> out_;
  std::vector<First> first_of_each_;  // in the order in which they were found
  std::vector<std::pair<std::string, std::vector<double>>> reproduced_;
};

}  // namespace

std::vector<Explained> explain(const Scene& scene, const Arithmetic& arithmetic) {
  Search search(scene, arithmetic);
  std::vector<Candidate> last;
  const auto take = [&](Candidate candidate) {
    if (candidate.last_resort) {
      last.push_back(std::move(candidate));
    } else {
      search.consider(std::move(candidate));
    }
  };
  for (const Hypothesis& hypothesis : all_hypotheses()) hypothesis.propose(scene, take);
  if (!search.found())
    for (Candidate& candidate : last) search.consider(std::move(candidate));
  return std::move(search).result();
}

bool reproduces(const Scene& scene, const Arithmetic& arithmetic, std::string_view hypothesis) {
  Search search(scene, arithmetic);
  const auto take = [&](Candidate candidate) {
    if (!search.found() && same_class(candidate.hypothesis, hypothesis)) search.consider(std::move(candidate));
  };
  for (const Hypothesis& one : all_hypotheses()) one.propose(scene, take);
  return search.found();
}

}  // namespace greta::audit
