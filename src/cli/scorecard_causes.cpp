#include "cli/scorecard_causes.h"

#include <algorithm>
#include <array>
#include <vector>

namespace greta::cli {
namespace {

struct Truth {
  std::string_view kind;
  std::vector<std::string_view> names;
};

const std::vector<Truth>& truths() {
  static const std::vector<Truth> all{
      {"stale-input", {"input"}},
      {"perturb", {"element"}},
      {"nan", {"nan", "element"}},
      {"uninitialised-tail", {"tail-unwritten", "element"}},
      {"layernorm-for-rmsnorm", {"mean-subtracted"}},
      {"rmsnorm-weight", {"weight"}},
      {"rmsnorm-row-stride", {"row-stride"}},
      {"rmsnorm-epsilon", {"epsilon"}},
      {"rope-pairing", {"rope-pairing"}},
      {"rope-theta", {"rope-theta"}},
      {"rope-factors-missing", {"rope-factors-missing"}},
      {"rope-twice", {"rope-twice", "rope-position"}},
      {"rope-position", {"rope-position", "rope-twice", "rope-missing"}},
      {"position-narrow", {"rope-position", "rope-missing"}},
      {"position-broadcast", {"rope-position", "rope-missing"}},
      {"weight-transposed", {"weight-transposed"}},
      {"row-shifted", {"row-shifted"}},
      {"qk-permuted", {"rows-permuted"}},
      {"tail-dropped", {"tail-dropped"}},
      {"block-scale", {"block-scale"}},
      {"block-min", {"block-min"}},
      {"bias-missing", {"bias-missing"}},
      {"f16-accumulate", {"accumulation"}},
      {"inverse-scale-f16", {"inverse-scale"}},
      {"softmax-scale", {"softmax-scale"}},
      {"attention-length", {"attention-length"}},
      {"mask-stride", {"mask-stride"}},
      {"gqa-head-map", {"gqa-head-map"}},
      {"sequence-crosstalk", {}},
      {"softmax-no-max", {"softmax-no-max"}},
      {"nan-padding", {"nan"}},
      {"mask-off-by-one", {"mask-off-by-one"}},
      {"window-off-by-one", {"window"}},
      {"softcap-missing", {"softcap-missing"}},
      {"merge-empty-chunk", {"merge-empty-chunk"}},
      {"kv-slot-shift", {"slot-unwritten", "slot-content"}},
      {"kv-wrong-layer", {"kv-wrong-layer", "slot-unwritten", "slot-content"}},
      {"kv-stale", {"slot-unwritten", "slot-content"}},
      {"kv-shift-missing", {"slot-content", "shift-missing"}},
      {"chunk-slot-map", {"slot-content"}},
      {"residual-missing", {"residual"}},
      {"residual-twice", {"residual"}},
      {"residual-source", {"input"}},
      {"embedding-row", {"embedding-row"}},
      {"embedding-scale", {"embedding-scale"}},
      {"head-untied-ignored", {"weight"}},
      {"logits-row", {"logits-row", "input"}},
  };
  return all;
}

}  // namespace

std::span<const std::string_view> right_names(std::string_view kind) {
  const auto found = std::find_if(truths().begin(), truths().end(), [&](const Truth& one) { return one.kind == kind; });
  return found == truths().end() ? std::span<const std::string_view>() : std::span<const std::string_view>(found->names);
}

}  // namespace greta::cli
