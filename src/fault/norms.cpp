// RMSNorm: another norm, another weight, another stride, another epsilon.
#include <fmt/format.h>

#include <array>
#include <numeric>

#include "fault/catalogue.h"
#include "fault/stage_weights.h"

namespace greta {
namespace {

constexpr std::array kNorms{Stage::attn_norm, Stage::q_norm,        Stage::k_norm,   Stage::attn_post_norm,
                            Stage::ffn_norm,  Stage::ffn_post_norm, Stage::final_rms};

std::string lacks_norm(const FaultSpec& fault, const FaultTarget& target) {
  return !fault.stage || norm_of(target.model, *fault.stage, 0) ? "" : fmt::format("the model has no {}", name(*fault.stage));
}

void plant_layernorm(const FaultSpec& fault, WrongCall& call) {
  call.instead(fault, [&call] {
    const TensorView centred = copy_of(call.x, call.arena);  // RMSNorm of x - mean(x) is LayerNorm of x
    for (std::int64_t r = 0; r < call.n_rows(); ++r) {
      std::vector<double> row = row_as_double(centred, r);
      const auto group = static_cast<std::size_t>(call.weight.n_cols);  // a whole row, or a head
      for (std::size_t first = 0; first + group <= row.size(); first += group) {
        const auto part = std::span(row).subspan(first, group);
        const double mean = std::accumulate(part.begin(), part.end(), 0.0) / static_cast<double>(group);
        for (double& x : part) x -= mean;
      }
      store_row(centred, r, row);
    }
    call.kernel.rmsnorm(call.site, centred, call.weight, call.eps, call.out);
  });
}

constexpr std::array kWeightKeys{
    FaultKey{.name = "delta", .fallback = "1", .doc = "layers away, round the end", .min = -4096, .max = 4096}};

void plant_weight(const FaultSpec& fault, WrongCall& call) {
  const auto& layers = call.target.model.weights.layers;
  if (call.site.stage == Stage::final_rms) {
    call.weight = layers.back().ffn_norm;
    return;
  }
  const auto n = static_cast<std::int64_t>(layers.size());
  call.weight = norm_of(call.target.model, call.site.stage,
                        static_cast<std::size_t>(((call.site.layer + fault.integer("delta")) % n + n) % n));
}

std::string lacks_layers(const FaultSpec& fault, const FaultTarget& target) {
  if (target.n_layers() == 1 && fault.stage != Stage::final_rms) return "the model has one layer";
  return lacks_norm(fault, target);
}

constexpr std::array kStrideKeys{
    FaultKey{.name = "delta", .fallback = "1", .doc = "elements by which the stride is too short", .min = 1, .max = 1e6}};

void plant_stride(const FaultSpec& fault, WrongCall& call) {
  const TensorView& all = call.whole.x;
  auto& packed = call.arena.bytes.emplace_back(copy_rows(all));
  auto& extents = call.arena.extents.emplace_back();
  const std::int64_t stride = std::max<std::int64_t>(0, all.n_cols - fault.integer("delta"));
  for (const std::int64_t r : call.indices) extents.push_back({row_bytes(all.dtype, r * stride), all.n_cols});
  call.x.data = packed.data();
  call.x.extents = extents;
}

constexpr std::array kEpsilonKeys{FaultKey{
    .name = "eps", .type = KeyType::real, .fallback = "1e-6", .doc = "the epsilon that is used", .min = 0, .max = 1e300}};

void plant_epsilon(const FaultSpec& fault, WrongCall& call) { call.eps = fault.real("eps"); }

const auto kRows = std::to_array<FaultInfo>({
    {.name = "layernorm-for-rmsnorm",
     .family = "norms",
     .doc = "LayerNorm (the mean subtracted) where RMSNorm is meant",
     .found_at = "the norm's own stage (the first of those chosen)",
     .idle = "where the row's mean is zero",
     .needs = "a model with the norm",
     .stands_for = "LayerNorm where RMSNorm is meant (llama.cpp#173)",
     .stages = kNorms,
     .shows = ShowsIn::kernel,
     .plant = plant_layernorm,
     .lacks = lacks_norm},
    {.name = "rmsnorm-weight",
     .family = "norms",
     .doc = "an RMSNorm multiplies by another layer's weight (final_rms: by the last layer's ffn_norm)",
     .found_at = "the norm's own stage (the first of those chosen)",
     .idle = "where both weights are equal",
     .needs = "a model of two layers or more, with the norm",
     .stands_for = "the weight of another layer: a wrong index or offset into the weights",
     .stages = kNorms,
     .keys = kWeightKeys,
     .plant = plant_weight,
     .lacks = lacks_layers},
    {.name = "rmsnorm-row-stride",
     .family = "norms",
     .doc = "an RMSNorm finds row r of its input at r times a stride that is too short",
     .found_at = "the norm's own stage (the first of those chosen)",
     .idle = "at the first row of a call, which decode's only one is",
     .needs = "a model with the norm, and a call of two rows or more",
     .stands_for =
         "RMSNorm reads the right buffer at another token's offset (gretacore B3.42); a row stride assumed contiguous "
         "(aiter#3498)",
     .stages = kNorms,
     .keys = kStrideKeys,
     .plant = plant_stride,
     .lacks = lacks_norm},
    {.name = "rmsnorm-epsilon",
     .family = "norms",
     .doc = "an RMSNorm computes with another epsilon than the model's",
     .found_at = "the norm's own stage (the first of those chosen)",
     .idle = "where eps is the model's own",
     .needs = "a model with the norm",
     .stands_for = "RMS epsilon hard-coded 1e-6 (llama.cpp#2373)",
     .stages = kNorms,
     .keys = kEpsilonKeys,
     .plant = plant_epsilon,
     .lacks = lacks_norm},
});

}  // namespace

std::span<const FaultInfo> norm_faults() { return kRows; }

}  // namespace greta
