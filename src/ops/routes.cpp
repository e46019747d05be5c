#include "ops/routes.h"

#include <fmt/format.h>
#include <hwy/targets.h>

#include <algorithm>

#include "core/error.h"
#include "core/nearest.h"
#include "core/quote.h"

namespace greta {
namespace {

constexpr std::array<std::string_view, kOpKindCount> kOpNames = {"embed", "rmsnorm", "matmul", "rope", "kv_write",
                                                                 "kv_shift", "qk", "softmax", "pv", "add", "act_mul", "softcap",
                                                                 "quantize"};
constexpr std::array<std::string_view, 3> kIsaNames = {"scalar", "avx2", "avx512"};
constexpr std::array<std::string_view, 5> kRouteNames = {"reference", "float64", "q8", "invariant", "free"};
constexpr std::array<std::string_view, 5> kPlanNames = kRouteNames;  // a plan is named for the route it is about
constexpr std::array<Isa, 3> kAllIsas = {Isa::scalar, Isa::avx2, Isa::avx512};

constexpr std::array kRoutes = {
    RouteInfo{OpKind::embed, RouteId::reference, "F32; the table's row, dequantised exactly; a scale in one rounding", true, true, true},
    RouteInfo{OpKind::embed, RouteId::float64, "double; the table's row, dequantised exactly; a scale in one rounding", false, true, false},
    RouteInfo{OpKind::rmsnorm, RouteId::reference,
              "F32; squares in 16 fused chains and one halving tree, exact division and root", true, true, true},
    RouteInfo{OpKind::rmsnorm, RouteId::float64, "double; squares in order", false, true, false},
    RouteInfo{OpKind::matmul, RouteId::reference,
              "F32; dot products in 16 fused chains and one halving tree; weights dequantised exactly", true, true, true},
    RouteInfo{OpKind::matmul, RouteId::float64, "double; inputs in order; weights dequantised exactly", false, true, false},
    RouteInfo{OpKind::matmul, RouteId::q8,
              "integers, exact, a sum a block; F32 over blocks in order; floating-point weights as reference", true, true, true},
    RouteInfo{OpKind::matmul, RouteId::invariant,
              "inputs rounded to the weights' 16 bits, products on matrix cores into F32, chunks of inputs from zero and added in "
              "order; blocks as q8, F32 as reference", true, false, true},
    RouteInfo{OpKind::matmul, RouteId::free, "the same inputs, by the vendor's library; its order, which may change with the rows",
              true, false, true},
    RouteInfo{OpKind::rope, RouteId::reference, "F32; angles, sine and cosine in double", true, true, true},
    RouteInfo{OpKind::rope, RouteId::float64, "double", false, true, false},
    RouteInfo{OpKind::kv_write, RouteId::reference,
              "F32; rounded to the cache's type, ties to even; q8_0 by its reference definition", true, true, true},
    RouteInfo{OpKind::kv_write, RouteId::float64,
              "double; rounded to the cache's type, ties to even; q8_0 by its reference definition", false, true, false},
    RouteInfo{OpKind::kv_shift, RouteId::reference, "F32; K turned by the shift as rope turns, then stored as kv_write stores",
              true, true, true},
    RouteInfo{OpKind::kv_shift, RouteId::float64, "double; K turned by the shift as rope turns, then stored as kv_write stores",
              false, true, false},
    RouteInfo{OpKind::qk, RouteId::reference, "F32; head_dim in 16 fused chains and one halving tree", true, true, true},
    RouteInfo{OpKind::qk, RouteId::float64, "double; head_dim in order", false, true, false},
    RouteInfo{OpKind::qk, RouteId::invariant,
              "q in 2 terms of F16 or 3 of BF16 as the cache has K, products on matrix cores into F32, head_dim in order; F32 K "
              "as reference", true, false, true},
    RouteInfo{OpKind::softmax, RouteId::reference, "F32; maximum subtracted, own exp, keys in 16 chains and one halving tree",
              true, true, true},
    RouteInfo{OpKind::softmax, RouteId::float64, "double; maximum subtracted, own exp, keys in order", false, true, false},
    RouteInfo{OpKind::pv, RouteId::reference, "F32; one fused chain an element, keys in order", true, true, true},
    RouteInfo{OpKind::pv, RouteId::float64, "double; keys in order", false, true, false},
    RouteInfo{OpKind::pv, RouteId::invariant,
              "probabilities in 2 terms of F16 or 3 of BF16 as the cache has V, products on matrix cores into F32 over 256 keys at "
              "absolute positions, such sums added in order; F32 V by a fused chain an element in their place", true, false, true},
    RouteInfo{OpKind::add, RouteId::reference, "F32; one rounding", true, true, true},
    RouteInfo{OpKind::add, RouteId::float64, "double", false, true, false},
    RouteInfo{OpKind::act_mul, RouteId::reference, "F32; own exp, exact division", true, true, true},
    RouteInfo{OpKind::act_mul, RouteId::float64, "double; own exp", false, true, false},
    RouteInfo{OpKind::softcap, RouteId::reference, "F32; own tanh, exact division", true, true, true},
    RouteInfo{OpKind::softcap, RouteId::float64, "double; own tanh", false, true, false},
    RouteInfo{OpKind::quantize, RouteId::reference,
              "F32; for weights of blocks: blocks of 32, d = max |x| / 127, codes x / d, ties to even; for weights of F16 or BF16 "
              "(plans invariant and free of a GPU): their type, ties to even (plans that quantise only)", true, true, true},
    RouteInfo{OpKind::quantize, RouteId::float64, "the same, from values rounded to F32: the same codes", false, true, false},
};

constexpr bool has_route(OpKind op, RouteId id) {
  return std::any_of(kRoutes.begin(), kRoutes.end(), [&](const RouteInfo& info) { return info.op == op && info.id == id; });
}

// A fast route without the meaning that it is judged by must not exist, and every op needs the judge too.
static_assert(std::all_of(kRoutes.begin(), kRoutes.end(),
                          [](const RouteInfo& info) { return has_route(info.op, RouteId::reference); }),
              "a route is registered for an op that has no reference route");
static_assert(
    [] {
      for (int op = 0; op < kOpKindCount; ++op) {
        if (!has_route(static_cast<OpKind>(op), RouteId::reference) || !has_route(static_cast<OpKind>(op), RouteId::float64))
          return false;
      }
      return true;
    }(),
    "every op needs a reference and a float64 route");
static_assert(std::is_sorted(kRoutes.begin(), kRoutes.end(),
                             [](const RouteInfo& a, const RouteInfo& b) {
                               return a.op < b.op || (a.op == b.op && a.id < b.id);
                             }),
              "routes are listed in the order of ops, each once");

template <class Enum, std::size_t kCount>
std::optional<Enum> find_name(const std::array<std::string_view, kCount>& names, std::string_view wanted) {
  const auto found = std::find(names.begin(), names.end(), wanted);
  if (found == names.end()) return std::nullopt;
  return static_cast<Enum>(found - names.begin());
}

}  // namespace

std::string_view name(OpKind op) { return kOpNames[static_cast<std::size_t>(op)]; }
std::string_view name(Isa isa) { return kIsaNames[static_cast<std::size_t>(isa)]; }
std::string_view name(RouteId route) { return kRouteNames[static_cast<std::size_t>(route)]; }
std::optional<OpKind> op_kind_from_name(std::string_view wanted) { return find_name<OpKind>(kOpNames, wanted); }
std::optional<Isa> isa_from_name(std::string_view wanted) { return find_name<Isa>(kIsaNames, wanted); }

std::span<const Isa> supported_isas() {
  // Highway asks the processor and whether the system saves the wide registers.
  static const std::size_t count = [] {
#if defined(__x86_64__)
    const std::int64_t targets = hwy::SupportedTargets();
    if ((targets & HWY_AVX2) == 0) return std::size_t{1};
    return (targets & HWY_AVX3) == 0 ? std::size_t{2} : std::size_t{3};
#else
    return std::size_t{1};
#endif
  }();
  return std::span(kAllIsas).first(count);
}

std::span<const RouteInfo> all_routes() { return kRoutes; }

RouteTable select_routes(std::string_view plan, const RouteShape&, const std::map<std::string, std::string>& overrides,
                         Target target) {
  const auto chosen = find_name<RouteId>(kPlanNames, plan);
  if (!chosen) fail("plan {} is not known{}", quote(plan), suggestion(plan, kPlanNames));
  RouteTable table;
  table.route.fill(*chosen == RouteId::float64 ? RouteId::float64 : RouteId::reference);
  if (*chosen != RouteId::float64) table.route[static_cast<std::size_t>(OpKind::matmul)] = *chosen;
  if (*chosen == RouteId::invariant || *chosen == RouteId::free) {
    for (const OpKind op : {OpKind::qk, OpKind::pv}) table.route[static_cast<std::size_t>(op)] = RouteId::invariant;
  }
  if (target == Target::cpu && (*chosen == RouteId::invariant || *chosen == RouteId::free))
    fail("plan {} is of GPU backends; on the cpu use reference or q8, which are invariant too, or float64", plan);
  if (target == Target::gpu && *chosen == RouteId::float64)
    fail("plan float64 is of the cpu backend; on a GPU use reference, q8, invariant or free");
  const bool f32_activations = *chosen != RouteId::float64;
  for (const auto& [op_name, route_name] : overrides) {
    const auto op = op_kind_from_name(op_name);
    if (!op) fail("op {} is not known{}", quote(op_name), suggestion(op_name, kOpNames));
    const auto route = find_name<RouteId>(kRouteNames, route_name);
    if (!route) fail("route {} of op {} is not known{}", quote(route_name), op_name, suggestion(route_name, kRouteNames));
    const auto info =
        std::find_if(kRoutes.begin(), kRoutes.end(), [&](const RouteInfo& r) { return r.op == *op && r.id == *route; });
    if (info == kRoutes.end()) fail("op {} has no route {}; use reference", op_name, route_name);
    if (!info->on(target))
      fail("route {} of op {} is not of this backend; `greta routes` says where each is", route_name, op_name);
    if (*route == RouteId::q8 && *chosen != RouteId::q8)
      fail("route q8 of op {} reads quantised activations, and plan {} quantises none; use plan q8", op_name, plan);
    if (info->needs_f32_activations && !f32_activations) {
      fail("route {} of op {} takes F32 activations, and plan {} has F64; use route float64, or plan reference", route_name,
           op_name, plan);
    }
    table.route[static_cast<std::size_t>(*op)] = *route;
  }
  return table;
}

}  // namespace greta
