// Weights to the block formats of core/blocks.h. What a quantiser gives is the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/blocks.h"
#include "core/dtype.h"

namespace greta {

/// Writes `cols` elements of `in` as a row of any weight type (throws Error for others); `cols` is a multiple of its block,
/// `in` is finite. Scales too large for binary16 become infinite, which the caller has to look for.
///
/// f32 copies; f16 and bf16 round to nearest, ties to even. Formats with a reference definition follow it, to the byte; the
/// codes are made with d in F32, which is then rounded to binary16:
///   q8_0: d = max|x| / 127, code = x * (1 / d) rounded half away from zero;
///   q4_0, q5_0: d = m / -8 or m / -16, m the element of largest magnitude (the first of equals),
///               code = min(15 or 31, trunc(x * (1 / d) + 8.5 or 16.5));
///   q4_1, q5_1: m = min x, d = (max x - m) / 15 or 31, code = min(15 or 31, trunc((x - m) * (1 / d) + 0.5)).
/// The others have none: scales, minima and codes come from a search of ours for the least square error (quantize_256.cpp).
/// A block too small for 1 / d to be finite becomes zeros (its d rounds to 0 in binary16 in any case).
void quantize_row(DType dtype, const float* in, std::int64_t cols, std::byte* row);

/// One block or super-block of each format (32 or 256 elements).
void quantize_block(const float* x, BlockQ8_0& block);
void quantize_block(const float* x, BlockQ4_0& block);
void quantize_block(const float* x, BlockQ4_1& block);
void quantize_block(const float* x, BlockQ5_0& block);
void quantize_block(const float* x, BlockQ5_1& block);
void quantize_block(const float* x, BlockIQ4_NL& block);
void quantize_block(const float* x, BlockQ2_K& block);
void quantize_block(const float* x, BlockQ3_K& block);
void quantize_block(const float* x, BlockQ4_K& block);
void quantize_block(const float* x, BlockQ5_K& block);
void quantize_block(const float* x, BlockQ6_K& block);
void quantize_block(const float* x, BlockIQ4_XS& block);

}  // namespace greta
