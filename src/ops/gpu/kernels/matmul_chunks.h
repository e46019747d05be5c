// What the two shapes of matmul_invariant share: the operands, the chunks of k and how they are added, and loads of 8 numbers.
//
// An output is a sum of chunks of kChunk inputs in ascending order, begun at 0 and added in F32; the bias is added last. Within
// a chunk the matrix instruction (tile.h) adds to an accumulator that begins at 0. Nothing of it depends on the number of rows,
// on a row's place in the batch or on the shape of kernel.
#pragma once

#include "ops/gpu/kernels/numbers.h"
#include "ops/gpu/kernels/tile.h"

namespace greta::gpu::GRETA_GPU_TARGET {

inline constexpr int kChunk = 512;  // inputs
static_assert(kChunk % kTileDepth == 0);

struct ProductOperands {
  const std::byte* x;
  const std::byte* weight;
  std::byte* out;
  const float* bias;                  // or null
  std::int64_t x_stride, out_stride;  // bytes
  std::int64_t n_in;                  // inputs that are summed: weight columns, or more with the fault unread_padding
  std::int64_t n_cols;                // weight columns
  std::int64_t n_out;
  int n_rows;  // tokens
};

/// Adds a chunk's sum to a total.
template <KernelFault kFault>
GRETA_DEVICE float plus_chunk(float total, float chunk) {
  if constexpr (kFault == KernelFault::f16_accumulation) return through_half(total + through_half(chunk));
  return total + chunk;
}

GRETA_DEVICE void store_output(const ProductOperands& p, std::int64_t row, std::int64_t output, float total) {
  if (p.bias != nullptr) total += p.bias[output];
  reinterpret_cast<float*>(p.out + row * p.out_stride)[output] = total;
}

/// Numbers k .. k + 7 of 16 bits at `row`, zeros from n_in on. Aligned: k * 2 and `row` are multiples of 16 bytes, and n_in
/// of 8.
template <bool kAligned>
GRETA_DEVICE Piece load_numbers(const std::byte* row, std::int64_t k, std::int64_t n_in, bool once = false) {
  Piece piece{};
  if constexpr (kAligned) {
    if (k < n_in) piece = once ? load_once(row + 2 * k) : load_piece(row + 2 * k);
  } else {
    const auto* numbers = reinterpret_cast<const std::uint16_t*>(row);
    for (int i = 0; i < 8; ++i)
      if (k + i < n_in) piece.word[i / 2] |= static_cast<std::uint32_t>(numbers[k + i]) << (16 * (i % 2));
  }
  return piece;
}

/// Inputs k .. k + 7 of output `output`.
template <bool kAligned, KernelFault kFault>
GRETA_DEVICE Piece load_weights(const ProductOperands& p, std::int64_t output, std::int64_t k, bool once = false) {
  std::int64_t n_in = p.n_in;
  if constexpr (kFault == KernelFault::unread_padding) {
    // What follows a row is the next one; what follows the last is not ours to read.
    const std::int64_t left = (p.n_out - output) * p.n_cols;
    n_in = n_in < left ? n_in : left;
  }
  return load_numbers<kAligned>(p.weight + 2 * output * p.n_cols, k, n_in, once);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
