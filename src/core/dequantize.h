// Dequantisation of one block of each format; internal to core. What the values are is said in blocks.h.
#pragma once

#include "core/blocks.h"

namespace greta {

// Blocks of 32 (dequantize_32.cpp): `out` has 32 elements.
void dequantize_block(const BlockQ8_0& block, float* out);
void dequantize_block(const BlockQ4_0& block, float* out);
void dequantize_block(const BlockQ4_1& block, float* out);
void dequantize_block(const BlockQ5_0& block, float* out);
void dequantize_block(const BlockQ5_1& block, float* out);
void dequantize_block(const BlockIQ4_NL& block, float* out);

// Super-blocks (dequantize_256.cpp): `out` has 256 elements.
void dequantize_block(const BlockQ2_K& block, float* out);
void dequantize_block(const BlockQ3_K& block, float* out);
void dequantize_block(const BlockQ4_K& block, float* out);
void dequantize_block(const BlockQ5_K& block, float* out);
void dequantize_block(const BlockQ6_K& block, float* out);
void dequantize_block(const BlockIQ4_XS& block, float* out);

}  // namespace greta
