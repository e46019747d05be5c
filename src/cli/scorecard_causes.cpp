#include "cli/scorecard_causes.h"

#include <algorithm>
#include <array>
#include <vector>

#include "audit/cause_classes.h"

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
      {"nan", {"nan"}},
      {"uninitialised-tail", {"tail-unwritten"}},
      {"layernorm-for-rmsnorm", {"mean-subtracted"}},
      {"rmsnorm-weight", {"weight"}},
      {"rmsnorm-row-stride", {"row-stride"}},
      {"rmsnorm-epsilon", {"epsilon"}},
      {"rope-pairing", {"rope-pairing"}},
      {"rope-theta", {"rope-theta"}},
      {"rope-factors-missing", {"rope-factors-missing"}},
      {"rope-twice", {"rope-twice"}},
      {"rope-position", {"rope-position"}},
      {"position-narrow", {"rope-position"}},
      {"position-broadcast", {"rope-position"}},
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
      {"softmax-no-max", {"softmax-no-max"}},
      {"nan-padding", {"nan-padding"}},
      {"mask-off-by-one", {"mask-off-by-one"}},
      {"window-off-by-one", {"window"}},
      {"softcap-missing", {"softcap-missing"}},
      {"merge-empty-chunk", {"merge-empty-chunk"}},
      {"kv-slot-shift", {"kv-slot-shift"}},
      {"kv-wrong-layer", {"kv-wrong-layer"}},
      {"kv-stale", {"slot-unwritten", "slot-stale"}},  // a slot that nothing was in before, and one that something was
      {"chunk-slot-map", {"kv-slot-shift"}},
      {"residual-missing", {"residual"}},
      {"residual-twice", {"residual"}},
      {"residual-source", {"input"}},
      {"embedding-row", {"embedding-row"}},
      {"embedding-scale", {"embedding-scale"}},
      {"head-untied-ignored", {"weight"}},
      {"logits-row", {"logits-row"}},
  };
  return all;
}

bool is_class_of(const audit::CauseClass& one, std::string_view hypothesis) {
  return std::find(one.members.begin(), one.members.end(), hypothesis) != one.members.end();
}

}  // namespace

bool is_right_name(std::string_view kind, std::string_view name) {
  const auto found = std::find_if(truths().begin(), truths().end(), [&](const Truth& one) { return one.kind == kind; });
  if (found == truths().end()) return false;
  return std::any_of(found->names.begin(), found->names.end(), [&](std::string_view own) {
    if (audit::same_class(own, name)) return true;
    const auto classes = audit::cause_classes();
    return std::any_of(classes.begin(), classes.end(),
                       [&](const audit::CauseClass& one) { return one.name == name && is_class_of(one, own); });
  });
}

}  // namespace greta::cli
