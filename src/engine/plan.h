// A plan names the route of every op and the types of activations and KV cache.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "core/dtype.h"
#include "ops/routes.h"

namespace greta {

struct Plan {
  std::string name = "reference";
  DType activations = DType::f32;
  DType kv = DType::f32;
  std::map<std::string, std::string> overrides;  // op -> route

  /// The routes of a forward call of `n_rows` rows. Pure; stored with every capture.
  RouteTable routes(std::int64_t n_rows) const { return select_routes(name, RouteShape{n_rows}, overrides); }
};

/// `name`: "reference" (F32, default KV F32) or "float64" (default KV F64). Throws Error naming the known plans, or the KV
/// types, or (through select_routes) the known ops and routes.
Plan make_plan(std::string_view name, std::optional<DType> kv, std::map<std::string, std::string> overrides);

}  // namespace greta
