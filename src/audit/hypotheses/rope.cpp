// Hypotheses about RoPE: position, base, pairing, factors, times applied.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <optional>

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
  for (const int bits : {8, 16}) with(scene.right.turn & ((std::int64_t{1} << bits) - 1), fmt::format("{} bits", bits));
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
  for (const int digits : {1, 2, 3, 4}) {  // a base is a round number
    const double step = std::pow(10.0, std::floor(std::log10(*fit)) + 1 - digits);
    with(std::round(*fit / step) * step);
  }
  with(*fit);
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
  std::vector<std::pair<std::string, std::string>> equal;
  if (scene.right.turn <= 4) equal.emplace_back("or", fmt::format("rope-position +{}", scene.right.turn));
  emit({"rope-twice", std::move(equal), std::move(altered), {}, false});
  altered = scene.right;
  altered.turn = 0;
  emit({"rope-missing", {}, std::move(altered), {}, false});
}

// The form first: at a small position, turning twice is the same as turning by a position that is off by it.
constexpr std::array kRope{Hypothesis{"rope-pairing", "RoPE pairs, scales or applies otherwise", propose_form},
                           Hypothesis{"rope-position", "RoPE turns by another position", propose_position},
                           Hypothesis{"rope-theta", "RoPE computes with another base", propose_base}};

}  // namespace

std::span<const Hypothesis> rope_hypotheses() { return kRope; }

}  // namespace greta::audit
