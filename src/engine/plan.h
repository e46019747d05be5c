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
  Target target = Target::cpu;
  /// Whether inputs of matrix products are quantised to q8_f32, where every matrix that reads them is of blocks.
  bool quantised_inputs = false;
  /// Whether they are rounded to f16 or bf16, where every matrix that reads them is of that type.
  bool rounded_inputs = false;
  std::map<std::string, std::string> overrides;  // op -> route

  /// The type to which the input that all of `readers` share is converted; nullopt: it stays. Beside matrices of another kind
  /// none is converted: the owner of those chose not to round, and the others lose nothing but speed.
  std::optional<DType> input_type(std::span<const WeightView> readers) const;

  /// The routes of a forward call of `n_rows` rows. Pure; stored with every capture.
  RouteTable routes(std::int64_t n_rows) const { return select_routes(name, RouteShape{n_rows}, overrides, target); }
};

/// `name`: "reference" (F32, default KV F32), "q8" (the same with quantised inputs and integer matrix products, default KV F32),
/// "float64" (cpu; default KV F64), and of a GPU "invariant" (inputs as q8 or rounded to the weights' 16 bits, matrix cores in a
/// fixed order) and "free" (the same inputs, the vendor's library), default KV F16. Throws Error naming the known plans, or the
/// KV types, or (through select_routes) the known ops and routes.
Plan make_plan(std::string_view name, std::optional<DType> kv, std::map<std::string, std::string> overrides,
               Target target = Target::cpu);

/// Whether a KV cache can store `dtype`: f64, f32, f16, bf16, and q8_0 (blocks of 32 along head_dim, within one position); on a
/// GPU f32, f16 and bf16.
constexpr bool is_kv_type(DType dtype, Target target = Target::cpu) {
  if (dtype == DType::f32 || dtype == DType::f16 || dtype == DType::bf16) return true;
  return target == Target::cpu && (dtype == DType::f64 || dtype == DType::q8_0);
}
/// Throws Error where heads of `head_dim` elements are not whole blocks of `kv`.
void check_kv_type(DType kv, int head_dim);

}  // namespace greta
