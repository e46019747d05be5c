// How a route computes, as far as its rounding errors depend on it: formats, order, the errors of its functions.
#pragma once

#include <vector>

#include "core/dtype.h"

namespace greta::audit {

/// Rounding of a storage format to nearest: |stored - x| <= unit |x| + smallest, and beyond `largest` lies infinity.
struct Rounding {
  double unit = 0;      // relative; half the distance from 1 to the next number. 0: exact
  double smallest = 0;  // absolute; half the smallest subnormal (where subnormals are flushed, the smallest normal)
  double largest = 0;   // the largest finite number
};

/// Of f64, f32, f16 and bf16; throws Error for blocks.
Rounding rounding_of(DType dtype);

/// The declared arithmetic of a route. Relative errors are counted in units of accumulator.unit.
///
/// A sum of n terms runs in `lanes` chains, term i in chain i % lanes, which one tree then adds: chain i with i + lanes/2, then
/// with i + lanes/4, and so on.
struct Arithmetic {
  Rounding accumulator = rounding_of(DType::f32);
  Rounding operand;        // of data operands on their way in: a tensor core's binary16, F64 values read by an F32 route
  Rounding output;         // of results on their way out, where it is another format than the accumulator
  int lanes = 16;          // a power of two
  bool fused = true;       // a product and its sum round once
  bool truncates = false;  // rounds toward zero (units are then twice as large): errors do not average out

  double divide = 1;
  double root = 1;
  double exp = 2;
  double tanh = 6;
  double turn = 1;              // sine and cosine, relative
  double turn_floor = 2e-16;    // and absolute, not counted in units
  double angle_unit = 0x1p-52;  // relative error of position * frequency, not counted in units

  /// One relative rounding error.
  double unit() const { return accumulator.unit; }
  /// Whether double has too few digits to judge it, so that the judge computes in long double.
  bool is_double() const { return accumulator.unit < 0x1p-40; }
};

/// Plan `reference` (src/ops/reference): F32, 16 lanes, fused.
Arithmetic reference_arithmetic();
/// Its chains without lanes: the integer products of plan `q8`, the mixture of values in attention.
Arithmetic chain_arithmetic();
/// Matrix cores (plans `invariant` and `free`): products of 16-bit operands are exact in F32; sums are kept in F32 in any
/// order, each step aligned to its largest term and truncated (Fasi, Higham, Mikaitis & Pranesh 2021, Numerical behavior of
/// NVIDIA tensor cores, section 3), so errors do not average out. Estimated from the partial sums of one chain over all terms.
/// An instruction rounds once for 8 or 16 terms, so the chain counts as many times more roundings than there are; that is the
/// margin for orders whose partial sums are larger than the chain's (a library's choice in plan `free`, where terms cancel). It
/// is no proof for every order.
Arithmetic matrix_core_arithmetic();
/// The same with F32 data split into 16-bit terms (attention of plans `invariant` and `free`, where K and V have 16 bits): two
/// binary16 terms keep 22 bits of a number, three bfloat16 terms all. What lies far below the range of two terms loses more,
/// less than 2^-36 of the largest number that they hold (src/ops/gpu/kernels/terms.h).
Arithmetic split_core_arithmetic();
/// Plan `float64` (src/ops/float64): double, in order, nothing fused, results stored as `activations` (f64 or f32).
Arithmetic float64_arithmetic(DType activations);

}  // namespace greta::audit
