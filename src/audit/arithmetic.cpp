#include "audit/arithmetic.h"

#include "core/error.h"

namespace greta::audit {

Rounding rounding_of(DType dtype) {
  switch (dtype) {
    case DType::f64:
      return {0x1p-53, 0x1p-1074, 0x1.fffffffffffffp1023};
    case DType::f32:
      return {0x1p-24, 0x1p-150, 0x1.fffffep127};
    case DType::f16:
      return {0x1p-11, 0x1p-25, 65504};
    case DType::bf16:
      return {0x1p-8, 0x1p-134, 0x1.fep127};
    default:
      fail("rounding of {}: only f64, f32, f16 and bf16 round every number on its own", name(dtype));
  }
}

Arithmetic reference_arithmetic() { return {}; }

Arithmetic chain_arithmetic() {
  Arithmetic chain;
  chain.lanes = 1;
  return chain;
}

Arithmetic matrix_core_arithmetic() {
  Arithmetic chain = chain_arithmetic();
  chain.accumulator.unit = 0x1p-23;
  chain.truncates = true;
  return chain;
}

Arithmetic split_core_arithmetic() {
  Arithmetic chain = matrix_core_arithmetic();
  chain.operand = {0x1p-21, rounding_of(DType::f32).smallest, rounding_of(DType::f32).largest};
  return chain;
}

Arithmetic float64_arithmetic(DType activations) {
  Arithmetic arithmetic;
  arithmetic.accumulator = rounding_of(DType::f64);
  if (activations != DType::f64) arithmetic.output = rounding_of(activations);
  arithmetic.lanes = 1;
  arithmetic.fused = false;
  arithmetic.turn = 0;  // all of it is the absolute error
  return arithmetic;
}

}  // namespace greta::audit
