// Hypotheses about RMSNorm: its epsilon, its weight, the mean subtracted.
#include <fmt/format.h>

#include <array>
#include <cmath>
#include <numeric>

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
  for (const double eps : {0.0, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3}) with(eps);
  // The free fit: the output is x gain s for one s, hence eps = 1 / s^2 - mean(x^2). A norm of heads has an s for each.
  const std::vector<double>& x = scene.right.inputs[0];
  const std::vector<double>& gain = scene.right.gain;
  if (x.size() != gain.size()) return;
  double fitted = 0, norm = 0, squares = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    fitted += scene.actual[i] * x[i] * gain[i];
    norm += x[i] * x[i] * gain[i] * gain[i];
    squares += x[i] * x[i];
  }
  if (!(fitted > 0)) return;
  const double eps = norm * norm / (fitted * fitted) - squares / static_cast<double>(x.size());
  if (std::isfinite(eps) && eps > 1e-9 && std::fabs(eps - scene.right.eps) > 1e-3 * scene.right.eps) with(eps);
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

constexpr std::array kNorms{Hypothesis{"epsilon", "an RMSNorm computes with another epsilon than the file's", propose_epsilon},
                            Hypothesis{"weight", "an RMSNorm multiplies by another tensor, or by none", propose_weight},
                            Hypothesis{"mean-subtracted", "LayerNorm where RMSNorm is meant", propose_layernorm}};

}  // namespace

std::span<const Hypothesis> norm_hypotheses() { return kNorms; }

}  // namespace greta::audit
