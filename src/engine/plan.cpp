#include "engine/plan.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace greta {

Plan make_plan(std::string_view name, std::optional<DType> kv, std::map<std::string, std::string> overrides, Target target) {
  Plan plan;
  plan.name = std::string(name);
  plan.target = target;
  plan.overrides = std::move(overrides);
  (void)plan.routes(1);  // checks name and overrides
  plan.activations = name == "float64" ? DType::f64 : DType::f32;
  plan.rounded_inputs = name == "invariant" || name == "free";
  plan.quantised_inputs = name == "q8" || plan.rounded_inputs;
  plan.kv = kv.value_or(plan.rounded_inputs ? DType::f16 : plan.activations);
  if (!is_kv_type(plan.kv, target))
    fail("a KV cache of type '{}' is not supported; use {}", greta::name(plan.kv),
         target == Target::cpu ? "f64, f32, f16, bf16 or q8_0" : "f32, f16 or bf16 on a GPU");
  return plan;
}

std::optional<DType> Plan::input_type(std::span<const WeightView> readers) const {
  const auto all = [&](const auto& predicate) { return std::all_of(readers.begin(), readers.end(), predicate); };
  if (quantised_inputs && all([](const WeightView& weight) { return is_block_type(weight.dtype); })) return DType::q8_f32;
  for (const DType type : {DType::f16, DType::bf16})
    if (rounded_inputs && all([type](const WeightView& weight) { return weight.dtype == type; })) return type;
  return std::nullopt;
}

void check_kv_type(DType kv, int head_dim) {
  const std::int64_t block = dtype_info(kv).block_elems;
  if (head_dim % block != 0)
    fail("a KV cache of type {} has blocks of {} elements along head_dim, and this model's head_dim is {}; use f16, f32 or f64",
         name(kv), block, head_dim);
}

}  // namespace greta
