// A plan names the route of every op and the types of activations and KV cache.
#pragma once

#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "core/dtype.h"
#include "core/tensor.h"
#include "ops/routes.h"

namespace greta {

struct Plan {
  std::string name = "reference";
  DType activations = DType::f32;
  DType kv = DType::f32;
  /// Whether inputs of matrix products are quantised to q8_f32, where every matrix that reads them is of blocks.
  bool quantised_inputs = false;
  std::map<std::string, std::string> overrides;  // op -> route

  /// Whether the input that all of `readers` share is quantised. One matrix of floating-point numbers keeps it as it is: its
  /// owner chose not to round, and the others lose nothing but speed.
  bool quantises(std::span<const WeightView> readers) const;

  /// The routes of a forward call of `n_rows` rows. Pure; stored with every capture.
  RouteTable routes(std::int64_t n_rows) const { return select_routes(name, RouteShape{n_rows}, overrides); }
};

/// `name`: "reference" (F32, default KV F32) or "float64" (default KV F64). Throws Error naming the known plans, or the KV
/// types, or (through select_routes) the known ops and routes.
Plan make_plan(std::string_view name, std::optional<DType> kv, std::map<std::string, std::string> overrides);

/// Whether a KV cache can store `dtype`: f64, f32, f16, and q8_0 (blocks of 32 along head_dim, within one position).
constexpr bool is_kv_type(DType dtype) {
  return dtype == DType::f64 || dtype == DType::f32 || dtype == DType::f16 || dtype == DType::q8_0;
}
/// Throws Error where heads of `head_dim` elements are not whole blocks of `kv`.
void check_kv_type(DType kv, int head_dim);

}  // namespace greta
