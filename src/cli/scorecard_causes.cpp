#include "cli/scorecard_causes.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <string>
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
      {"rope-position", {"rope-position", "rope-missing"}},
      {"position-narrow", {"rope-position", "rope-missing"}},  // a position of 0 turns nothing
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
      {"softmax-no-max", {"softmax-no-max"}},
      {"nan-padding", {"nan-padding"}},
      {"mask-off-by-one", {"mask-off-by-one"}},
      {"window-off-by-one", {"window"}},
      {"softcap-missing", {"softcap-missing"}},
      {"merge-empty-chunk", {"merge-empty-chunk"}},
      {"kv-slot-shift", {"kv-slot-shift", "slot-unwritten"}},  // the row itself is not there; where it went may not be kept
      {"kv-wrong-layer",
       {"kv-wrong-layer", "kv-unwritten", "slot-unwritten", "slot-stale"}},  // the same, or empty slots are read
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

std::string param(const isolate::Cause& cause, std::string_view key) {
  for (const auto& [name, value] : cause.params)
    if (name == key) return value;
  return "";
}

/// The value of KEY=VALUE in a fault's text, or empty.
std::string key_of(std::string_view fault, std::string_view key) {
  const std::string start = ":" + std::string(key) + "=";
  const std::size_t at = fault.find(start);
  if (at == std::string_view::npos) return "";
  const std::string_view rest = fault.substr(at + start.size());
  return std::string(rest.substr(0, rest.find(':')));
}

/// A key of a kind and the parameter of a hypothesis that must say the same.
struct SameValue {
  std::string_view kind, key, hypothesis, param;
  bool number = true;
};
constexpr SameValue kSame[]{
    {"rmsnorm-epsilon", "eps", "epsilon", "eps"},     {"rope-theta", "theta", "rope-theta", "theta"},
    {"row-shifted", "delta", "row-shifted", "delta"}, {"stale-input", "from", "input", "stage", false},
    {"perturb", "index", "element", "first"},         {"residual-source", "from", "input", "stage", false}};

bool same_values(std::string_view fault, std::string_view kind, const isolate::Cause& cause) {
  for (const SameValue& one : kSame) {
    const std::string planted = key_of(fault, one.key), found = param(cause, one.param);
    if (one.kind != kind || one.hypothesis != cause.name || planted.empty() || found.empty()) continue;
    if (!one.number) return planted == found;
    const double a = std::atof(planted.c_str()), b = std::atof(found.c_str());
    return std::fabs(a - b) <= 1e-3 * std::fabs(a);
  }
  return true;
}

/// Whether "A x=1 or B" has the hypothesis.
bool lists(const std::string& one_of, std::string_view hypothesis) {
  const std::string words = " or " + one_of + " ", wanted = " or " + std::string(hypothesis) + " ";
  return words.find(wanted) != std::string::npos;
}

}  // namespace

bool is_right_cause(std::string_view fault, const isolate::Cause& cause) {
  const std::string_view kind = fault.substr(0, fault.find('@'));
  const auto found = std::find_if(truths().begin(), truths().end(), [&](const Truth& one) { return one.kind == kind; });
  if (found == truths().end()) return false;
  const std::string one_of = param(cause, "one_of");
  return std::any_of(found->names.begin(), found->names.end(), [&](std::string_view own) {
    return one_of.empty() ? own == cause.name && same_values(fault, kind, cause) : lists(one_of, own);
  });
}

}  // namespace greta::cli
