#include "audit/hypothesis.h"

#include <algorithm>
#include <cmath>

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
  for (const auto family : {norm_hypotheses(), weight_hypotheses(), rope_hypotheses(), attention_hypotheses(),
                            input_hypotheses(), residual_hypotheses(), slot_hypotheses(), output_hypotheses()})
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

}  // namespace

std::vector<Explained> explain(const Scene& scene, const Arithmetic& arithmetic) {
  const Screen screen(scene, arithmetic);
  const double whole = squared_distance(scene.due.value, scene.actual);
  std::vector<Explained> out;
  std::vector<std::vector<double>> reproduced;
  const auto consider = [&](Candidate candidate) {
    if (candidate.last_resort && !reproduced.empty()) return;
    if (!candidate.after && !screen.passes(candidate.altered)) return;
    Estimate due = estimate(candidate.altered, arithmetic);
    if (candidate.after) candidate.after(due);
    if (due.value.size() != scene.actual.size()) return;
    if (squared_distance(due.value, scene.due.value) == 0) return;
    if (std::any_of(reproduced.begin(), reproduced.end(),
                    [&](const std::vector<double>& values) { return squared_distance(values, due.value) == 0; }))
      return;  // another name for what has been found: the same numbers
    Explained explained{std::move(candidate.hypothesis), std::move(candidate.params), false, 0};
    explained.distance = whole > 0 ? std::sqrt(squared_distance(due.value, scene.actual) / whole) : 0;
    for (auto* bounds : {&due.bound, &due.worst, &due.common})
      for (double& bound : *bounds) bound *= 4;
    explained.reproduces = !judge(due, scene.actual).guilty();
    if (explained.reproduces) reproduced.push_back(std::move(due.value));
    out.push_back(std::move(explained));
  };
  for (const Hypothesis& hypothesis : all_hypotheses()) hypothesis.propose(scene, consider);
  std::stable_sort(out.begin(), out.end(), [](const Explained& a, const Explained& b) {
    return a.reproduces != b.reproduces ? a.reproduces : !a.reproduces && a.distance < b.distance;
  });
  if (out.size() > kMostExplained) out.resize(kMostExplained);
  return out;
}

}  // namespace greta::audit
