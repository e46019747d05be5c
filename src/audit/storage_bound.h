// Rounding to storage: the KV cache, and activations in 8-bit blocks.
#pragma once

#include <span>

#include "audit/arithmetic.h"
#include "audit/estimate.h"
#include "core/dtype.h"

namespace greta::audit {

/// Values of a slot, [n], as `dtype` holds them: f64, f32, f16, bf16 or q8_0 (n a multiple of 32). `held` is the type of x:
/// what it holds exactly, a wider cache holds exactly. Plain numbers: x, within one rounding. Q8_0: as activation_blocks(),
/// with the scale rounded to binary16 after the codes are made.
Estimate kv_write(std::span<const double> x, DType dtype, DType held);

/// Values of a row, [n], n a multiple of 32, in blocks of 8-bit codes as core/activation_blocks.h defines them: code * d with d
/// = max |x| / 127 in F32. They are what exact arithmetic gives, so that a wrong scale is seen; d errs by one rounding
/// (`common`), and where x / d is within rounding of a half, the code may be the next one: a step of d. A block with NaN or
/// infinity is NaN.
Estimate activation_blocks(std::span<const double> x, DType held);

}  // namespace greta::audit
