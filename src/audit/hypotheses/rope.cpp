// Hypotheses about RoPE: position, base, pairing, factors, times applied.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <optional>

#include "audit/hypotheses/round_number.h"
#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

bool is_rope(const Scene& scene) { return scene.right.op.op == OpClass::rope; }

void propose_position(const Scene& scene, const Emit& emit) {
  if (!is_rope(scene)) return;
  const auto with = [&](std::int64_t turn, std::string why) {
    if (turn == scene.right.turn) return;
    RowCase altered = scene.right;
    altered.turn = turn;
    emit({"rope-position", {{"position", std::to_string(turn)}, {"as", std::move(why)}}, std::move(altered), {}, false});
  };
  for (int delta = -4; delta <= 4; ++delta)
    if (delta != 0) with(scene.right.turn + delta, fmt::format("{:+}", delta));
  for (const int position : scene.rows.positions(scene.right.op.inputs[0].stage, scene.right.op.inputs[0].layer))
    if (position < scene.right.turn - 4) with(position, "another row's");
  for (const int bits : {8, 15, 16}) with(scene.right.turn & ((std::int64_t{1} << bits) - 1), fmt::format("{} bits", bits));
}

/// The base that turns the slowest pair of the first head whose angle is unambiguous as the output has it; nothing where there
/// is none.
std::optional<double> fitted_base(const Scene& scene) {
  const Rotation& r = scene.right.rotation;
  const std::vector<double>& x = scene.right.inputs[0];
  for (int i = r.n_rot / 2 - 1; i > 0; --i) {
    const auto first = static_cast<std::size_t>(r.interleaved ? 2 * i : i),
               second = static_cast<std::size_t>(r.interleaved ? 2 * i + 1 : i + r.n_rot / 2);
    const double a = x[first], b = x[second], c = scene.actual[first], d = scene.actual[second];
    const double angle = std::atan2(a * d - b * c, a * c + b * d);
    if (!(angle > 0.02) || angle > 3) continue;  // too small to tell, or maybe a turn more
    const double factor = r.freq_factors.empty() ? 1 : static_cast<double>(r.freq_factors[static_cast<std::size_t>(i)]);
    const double base = std::pow(static_cast<double>(scene.right.turn) / r.linear_scale / factor / angle, r.n_rot / (2.0 * i));
    return std::isfinite(base) && base > 1 ? std::optional(base) : std::nullopt;
  }
  return std::nullopt;
}

void propose_base(const Scene& scene, const Emit& emit) {
  if (!is_rope(scene)) return;
  const auto with = [&](double theta) {
    if (theta == scene.right.rotation.theta) return;
    RowCase altered = scene.right;
    altered.rotation.theta = theta;
    emit({"rope-theta", {{"theta", fmt::format("{:.6g}", theta)}}, std::move(altered), {}, false});
  };
  for (const double theta : {1e4, 5e4, 1e5, 5e5, 1e6, 1e7}) with(theta);
  const std::optional<double> fit = fitted_base(scene);
  if (!fit) return;
  for (const int digits : {1, 2, 3, 4, 5, 6}) with(rounded_to(*fit, digits));  // a base is a round number
  with(*fit);
}

/// Of what is turned twice: the first result is rounded too, by units of its pair's length, which no turn changes. The head's
/// largest element is about that, whichever element is its pair's other half.
std::function<void(Estimate&)> rounds_between(const Scene& scene) {
  const double unit = 4 * rounding_of(scene.right.stored).unit;
  return [unit, dim = static_cast<std::size_t>(scene.right.rotation.head_dim)](Estimate& estimate) {
    for (std::size_t first = 0; first + dim <= estimate.value.size(); first += dim) {
      const auto head = std::span(estimate.value).subspan(first, dim);
      double largest = 0;
      for (const double value : head) largest = std::fmax(largest, std::fabs(value));
      for (std::size_t i = first; i < first + dim; ++i) estimate.bound[i] += unit * largest;
    }
  };
}

void propose_form(const Scene& scene, const Emit& emit) {
  if (!is_rope(scene)) return;
  RowCase altered = scene.right;
  altered.rotation.interleaved = !altered.rotation.interleaved;
  emit({"rope-pairing", {{"pairs", altered.rotation.interleaved ? "neighbours" : "halves"}}, std::move(altered), {}, false});
  if (!scene.right.rotation.freq_factors.empty()) {
    altered = scene.right;
    altered.rotation.freq_factors = {};
    emit({"rope-factors-missing", {}, std::move(altered), {}, false});
  }
  if (scene.right.rotation.linear_scale != 1) {
    altered = scene.right;
    altered.rotation.linear_scale = 1;
    emit({"rope-scale-missing", {}, std::move(altered), {}, false});
  }
  // Turned twice by p is turned once by 2 p.
  altered = scene.right;
  altered.turn *= 2;
  emit({"rope-twice", {}, std::move(altered), rounds_between(scene), false});
  altered = scene.right;
  altered.turn = 0;
  emit({"rope-missing", {}, std::move(altered), {}, false});
}

constexpr std::array kRope{Hypothesis{"rope-pairing", "RoPE pairs, scales or applies otherwise", propose_form},
                           Hypothesis{"rope-position", "RoPE turns by another position", propose_position},
                           Hypothesis{"rope-theta", "RoPE computes with another base", propose_base}};

}  // namespace

std::span<const Hypothesis> rope_hypotheses() { return kRope; }

}  // namespace greta::audit
