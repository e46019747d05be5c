#include "engine/plan.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace greta {

Plan make_plan(std::string_view name, std::optional<DType> kv, std::map<std::string, std::string> overrides) {
  Plan plan;
  plan.name = std::string(name);
  if (name == "reference") {
    plan.activations = DType::f32;
  } else if (name == "float64") {
    plan.activations = DType::f64;
  } else {
    fail("plan '{}' is not known; use reference or float64", name);
  }
  plan.kv = kv.value_or(plan.activations);
  if (!is_kv_type(plan.kv)) fail("a KV cache of type '{}' is not supported; use f64, f32, f16 or q8_0", greta::name(plan.kv));
  plan.overrides = std::move(overrides);
  (void)plan.routes(1);  // checks the overrides
  return plan;
}

bool Plan::quantises(std::span<const WeightView> readers) const {
  return quantised_inputs && std::all_of(readers.begin(), readers.end(), [](const WeightView& weight) {
           return dtype_info(weight.dtype).block_elems > 1;
         });
}

void check_kv_type(DType kv, int head_dim) {
  const std::int64_t block = dtype_info(kv).block_elems;
  if (head_dim % block != 0)
    fail("a KV cache of type {} has blocks of {} elements along head_dim, and this model's head_dim is {}; use f16, f32 or f64",
         name(kv), block, head_dim);
}

}  // namespace greta
