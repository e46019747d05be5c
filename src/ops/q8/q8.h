// Route `q8`: matrix products of quantised activations (core/activation_blocks.h) and block-quantised weights, by integers.
//
// What is computed, for a row x in blocks b of 32 codes with scale x.d[b], and one output's weights in sub-blocks s of 32 or 16
// elements, each w = d[s] * (code - offset) + m[s], where d[s] (a binary16 scale times an integer sub-scale) and m[s] (a
// minimum, where the type has one) are exact in F32:
//
//   I[s] = sum (code - offset) * x.q       integers, exact (|I| < 2^24)
//   X[s] = sum x.q                         integers, exact
//   acc  = fma(d[s] * x.d[b], I[s], acc)   for s in ascending order; the product is rounded to F32
//   acc  = fma(m[s], x.d[b] * X[s], acc)   after it, where the type has minima; the product is rounded to F32
//
// and the bias is added last. Integers do not care for order and every float operation above is one IEEE operation of one
// output, so the bits are the same for any number of rows or threads and for every instruction set. Nothing saturates.
#pragma once

#include "ops/cpu/context.h"

namespace greta::q8 {

/// Whether this route multiplies integers for these operands: quantised x and row-major weights of blocks. For others it is
/// route `reference` (floating-point weights; a matrix that is read transposed).
bool multiplies_integers(const TensorView& x, const WeightView& weight);

/// Operands for which multiplies_integers() holds, checked by CpuOps.
void matmul(const CpuContext& context, const TensorView& x, const WeightView& weight, const WeightView& bias,
            const TensorView& out);

}  // namespace greta::q8
