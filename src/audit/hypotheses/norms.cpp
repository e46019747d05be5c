// Hypotheses about RMSNorm: its epsilon, its weight, the mean subtracted, the stride of its rows.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>

#include "audit/hypotheses/round_number.h"
#include "audit/hypothesis.h"

namespace greta::audit {
namespace {

bool is_norm(const Scene& scene) { return scene.right.op.op == OpClass::rmsnorm; }

void propose_epsilon(const Scene& scene, const Emit& emit) {
  if (!is_norm(scene)) return;
  const auto with = [&](double eps) {
    if (eps == scene.right.eps || !(eps >= 0)) return;
    RowCase altered = scene.right;
    altered.eps = eps;
    emit({"epsilon", {{"eps", fmt::format("{:.6g}", eps)}}, std::move(altered), {}, false});
  };
  for (const double eps : {1e-6, 1e-5, 1e-12, 1e-8, 1e-7, 1e-4, 1e-3, 0.0}) with(eps);
  // The free fit: the output is x gain s for one s, hence eps = 1 / s^2 - mean(x^2). A norm of heads has an s for each: that of
  // the head with the smallest mean square says most of epsilon.
  const std::vector<double>& x = scene.right.inputs[0];
  const std::vector<double>& gain = scene.right.gain;
  double least = std::numeric_limits<double>::infinity(), eps = -1;
  for (std::size_t first = 0; first + gain.size() <= x.size() && !gain.empty(); first += gain.size()) {
    double fitted = 0, norm = 0, squares = 0;
    for (std::size_t i = 0; i < gain.size(); ++i) {
      const double unscaled = x[first + i] * gain[i];
      fitted += scene.actual[first + i] * unscaled;
      norm += unscaled * unscaled;
      squares += x[first + i] * x[first + i];
    }
    if (!(fitted > 0) || squares >= least) continue;
    least = squares;
    eps = norm * norm / (fitted * fitted) - squares / static_cast<double>(gain.size());
  }
  if (!std::isfinite(eps) || eps <= 1e-9 || std::fabs(eps - scene.right.eps) <= 1e-3 * scene.right.eps) return;
  for (const int digits : {1, 2, 3}) with(rounded_to(eps, digits));  // an epsilon is a round number
  with(eps);
}

void propose_weight(const Scene& scene, const Emit& emit) {
  if (!is_norm(scene)) return;
  const Tensors& tensors = scene.contract.tensors;
  const auto with = [&](const std::string& name) {
    const auto shape = tensors.find(name);
    if (!shape || name == scene.right.op.weight || shape->cols != static_cast<std::int64_t>(scene.right.gain.size()) ||
        shape->rows != 1)
      return;
    RowCase altered = scene.right;
    tensors.row(name, 0, altered.gain);
    emit({"weight", {{"tensor", name}}, std::move(altered), {}, false});
  };
  for (int layer = 0; layer < scene.contract.model.n_layers; ++layer)
    for (const char* part : {"attn_norm", "ffn_norm", "attn_q_norm", "attn_k_norm", "post_attention_norm", "post_ffw_norm"})
      with(fmt::format("blk.{}.{}.weight", layer, part));
  with("output_norm.weight");
  RowCase altered = scene.right;
  std::fill(altered.gain.begin(), altered.gain.end(), 1.0);
  emit({"weight", {{"tensor", "none"}}, std::move(altered), {}, false});
}

void propose_layernorm(const Scene& scene, const Emit& emit) {
  if (!is_norm(scene)) return;
  RowCase altered = scene.right;
  std::vector<double>& x = altered.inputs[0];
  const std::size_t group = altered.gain.size();
  for (std::size_t first = 0; first + group <= x.size(); first += group) {
    const auto begin = x.begin() + static_cast<std::ptrdiff_t>(first), end = begin + static_cast<std::ptrdiff_t>(group);
    const double mean = std::accumulate(begin, end, 0.0) / static_cast<double>(group);
    for (auto value = begin; value != end; ++value) *value -= mean;
  }
  emit({"mean-subtracted", {}, std::move(altered), {}, false});
}

/// The rows of the input up to the op's own, one after the other: as many as were kept without a gap, at most kMostElements.
std::vector<double> rows_before(const Scene& scene) {
  constexpr std::size_t kMostElements = std::size_t{1} << 20;
  const Place input = scene.right.op.inputs[0];
  std::vector<double> out;
  int first = scene.right.position;
  while (first > 0 && !scene.rows.row(input.stage, input.layer, first - 1).empty() &&
         static_cast<std::size_t>(scene.right.position - first + 2) * scene.right.inputs[0].size() <= kMostElements)
    --first;
  for (int p = first; p <= scene.right.position; ++p) {
    const auto row = scene.rows.row(input.stage, input.layer, p);
    out.insert(out.end(), row.begin(), row.end());
  }
  return out;
}

/// Whether the norm of `x` may be the output: a few ratios of output to x gain are one.
bool has_shape_of(const Scene& scene, std::span<const double> x) {
  const std::vector<double>& gain = scene.right.gain;
  const std::size_t step = std::max<std::size_t>(1, gain.size() / 8);
  double scale = 0;
  for (std::size_t i = 0; i < gain.size(); i += step) {
    const double due = x[i] * gain[i], actual = scene.actual[i];
    if (!std::isfinite(actual) || due == 0) return false;
    if (i == 0) scale = actual / due;
    if (std::fabs(actual - due * scale) > 1e-3 * std::fabs(actual)) return false;
  }
  return scale > 0;
}

/// The op's row begins some elements early, in the row before: it was found by a stride that is too short by DELTA elements,
/// which has added up to DELTA times the row's index in its call. DELTA is said for a call that begins at position 0.
void propose_stride(const Scene& scene, const Emit& emit) {
  if (!is_norm(scene) || scene.right.position == 0) return;
  const std::size_t n = scene.right.inputs[0].size();
  const std::vector<double> all = rows_before(scene);
  for (std::size_t early = 1; early + n <= all.size(); ++early) {
    if (early % n == 0) continue;  // that is the row of another position
    const auto x = std::span<const double>(all).subspan(all.size() - n - early, n);
    if (!has_shape_of(scene, x)) continue;
    RowCase altered = scene.right;
    altered.inputs[0].assign(x.begin(), x.end());
    std::vector<std::pair<std::string, std::string>> params{{"elements", std::to_string(early)}};
    const auto rows = static_cast<std::size_t>(scene.right.position);
    if (early % rows == 0) params.emplace_back("delta", std::to_string(early / rows));
    emit({"row-stride", std::move(params), std::move(altered), {}, false});
  }
}

constexpr std::array kNorms{
    Hypothesis{"epsilon", "an RMSNorm computes with another epsilon than the file's", propose_epsilon},
    Hypothesis{"weight", "an RMSNorm multiplies by another tensor, or by none", propose_weight},
    Hypothesis{"mean-subtracted", "LayerNorm where RMSNorm is meant", propose_layernorm},
    Hypothesis{"row-stride", "a row is read from the end of the one before on: the stride is too short", propose_stride}};

}  // namespace

std::span<const Hypothesis> norm_hypotheses() { return kNorms; }

}  // namespace greta::audit
