// Which implementation computes each op: the registry, and the pure choice from it.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"

namespace greta {

enum class OpKind : std::uint8_t {
  embed, rmsnorm, matmul, rope, kv_write, kv_shift, qk, softmax, pv, add, act_mul, softcap, quantize
};
inline constexpr int kOpKindCount = static_cast<int>(OpKind::quantize) + 1;
std::string_view name(OpKind op);
std::optional<OpKind> op_kind_from_name(std::string_view name);

enum class Isa : std::uint8_t { scalar, avx2, avx512 };
std::string_view name(Isa isa);
std::optional<Isa> isa_from_name(std::string_view name);
/// What this machine can run, from `scalar` up.
std::span<const Isa> supported_isas();

/// Where ops are computed: routes are of one or of both.
enum class Target : std::uint8_t { cpu, gpu };

/// One way to compute an op.
enum class RouteId : std::uint8_t { reference, float64, q8, invariant, free };
std::string_view name(RouteId route);

struct RouteInfo {
  OpKind op;
  RouteId id;
  std::string_view description;  // arithmetic, storage, order
  bool needs_f32_activations;
  bool on_cpu;
  bool on_gpu;
  bool on(Target target) const { return target == Target::cpu ? on_cpu : on_gpu; }
};
/// Every registered route, in the order of ops.
std::span<const RouteInfo> all_routes();

/// What is to be computed: all that a choice of route may depend on. Never the phase.
struct RouteShape {
  std::int64_t n_rows = 1;
};

/// The chosen route of every op.
struct RouteTable {
  std::array<RouteId, kOpKindCount> route{};
  RouteId operator[](OpKind op) const { return route[static_cast<std::size_t>(op)]; }
  friend bool operator==(const RouteTable&, const RouteTable&) = default;
};

/// Pure. `plan` is "reference", "float64" (cpu), "q8", "invariant" or "free" (gpu); `overrides` maps op names to route names.
/// Throws Error on an unknown op or route, naming the known ones, on one that `target` does not have, and on a route that cannot
/// take the plan's activations: route `q8` of matmul reads what plan `q8` alone quantises.
RouteTable select_routes(std::string_view plan, const RouteShape& shape, const std::map<std::string, std::string>& overrides,
                         Target target = Target::cpu);

}  // namespace greta
