#include "audit/bucket.h"

#include <algorithm>
#include <array>

namespace greta::audit {
namespace {

constexpr std::array<std::string_view, 18> kInput{
    "empty-slot",    "other-content",  "input",         "logits-row", "other-row",    "row-stride",
    "embedding-row", "slot-unwritten", "slot-stale",    "zeros",      "kv-unwritten", "kv-wrong-layer",
    "kv-slot-shift", "gqa-head-map",   "rope-position", "rope-turn",  "rope-missing", "rope-twice"};
constexpr std::array<std::string_view, 2> kStatistics{"epsilon", "mean-subtracted"};
constexpr std::array<std::string_view, 8> kWeights{"weight",       "weight-transposed", "row-shifted", "rows-permuted",
                                                   "bias-missing", "block-scale",       "block-min",   "rope-factors-missing"};
constexpr std::array<std::string_view, 2> kPrecision{"accumulation", "inverse-scale"};

template <std::size_t N>
bool holds(const std::array<std::string_view, N>& names, std::string_view name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

}  // namespace

std::string_view name(Bucket bucket) {
  constexpr std::array<std::string_view, 6> kNames{"NONE",          "A_input_selection", "B_norm_stats", "C_weight_layout",
                                                   "D_kernel_math", "E_precision_route"};
  return kNames[static_cast<std::size_t>(bucket)];
}

Bucket bucket_of(std::string_view hypothesis) {
  if (hypothesis.empty()) return Bucket::none;
  if (holds(kInput, hypothesis)) return Bucket::input_selection;
  if (holds(kStatistics, hypothesis)) return Bucket::norm_stats;
  if (holds(kWeights, hypothesis)) return Bucket::weight_layout;
  return holds(kPrecision, hypothesis) ? Bucket::precision_route : Bucket::kernel_math;
}

}  // namespace greta::audit
