// Conversions between storage types, each rounded once, half to even.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "core/dtype.h"

namespace greta {

/// Nearest binary16, ties to even, in one rounding (by way of float it would be two).
std::uint16_t f64_to_f16(double value);
/// Nearest bfloat16, likewise.
std::uint16_t f64_to_bf16(double value);

/// `n` values of `from` (f32 or f64) stored at `out` as `to` (f64, f32, f16, bf16 or, in blocks of 32, q8_0). Throws Error for other
/// types. q8_0 is the format's reference definition (core/blocks.h) of the values rounded to F32; no code stands for NaN or
/// infinity, so a block that holds one gets the scale NaN and is NaN as a whole.
void convert_row(DType from, const std::byte* in, std::int64_t n, DType to, std::byte* out);

/// `n` values of f64, f32, f16, bf16 or (in whole blocks) q8_f32 or q8_0 as double: exact. Throws Error for other types.
void widen_row(DType from, const std::byte* in, std::int64_t n, double* out);

}  // namespace greta
