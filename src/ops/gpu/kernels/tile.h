// Matrix instructions of a wave, the same for every vendor: tiles of 16 weights (rows of A) by 8 or 16 tokens (rows of B), 32
// inputs (k) at a time.
//
// Both operands are read from rows of consecutive k, and a step is two instructions of 16. Waves of 32: instruction j sums
// inputs 16 j .. 16 j + 15, and a lane holds 4 consecutive ones of each. Waves of 64: a lane holds 8 consecutive ones, the
// first 4 for the first instruction. Which lane holds which does not matter to the sum as long as A and B agree; which 16 an
// instruction sums does, so all kernels of a target use this order (wide_tile.h needs it to be the natural one).
//   waves of 32: mma.sync m16n8k16, f16 or bf16 (PTX ISA, "Matrix Fragments for mma.m16n8k16")
//   waves of 64: v_mfma_f32_16x16x16 (AMD CDNA3 ISA, section 7, "Matrix Arithmetic Instructions")
// Codes of 8 bits: q8_tile.h.
#pragma once

#include "core/half.h"
#include "ops/gpu/kernels/pieces.h"

namespace greta::gpu::GRETA_GPU_TARGET {

inline constexpr int kTileRows = 16;                                  // weights
inline constexpr int kTileTokens = kWave == 32 ? 8 : 16;              // tokens
inline constexpr int kTileDepth = 32;                                 // inputs of a step
inline constexpr int kTileResults = kTileRows * kTileTokens / kWave;  // of a lane
inline constexpr int kLaneRows = kWave == 32 ? 2 : 1;                 // rows of A of which a lane holds a piece
static_assert(kTileResults == 4);

/// Row of A that operand `i` of a lane belongs to.
GRETA_DEVICE int tile_row(int i, int lane = lane_id()) { return kWave == 32 ? lane / 4 + 8 * i : lane % 16; }
/// Row of B (token) of a lane's operand.
GRETA_DEVICE int tile_token(int lane = lane_id()) { return kWave == 32 ? lane / 4 : lane % 16; }
/// First of the 8 inputs that a lane reads where it reads 16 bytes of a row.
GRETA_DEVICE int tile_depth(int lane = lane_id()) { return 8 * (kWave == 32 ? lane % 4 : lane / 16); }
/// Where result i of a lane lies.
GRETA_DEVICE int result_row(int i, int lane = lane_id()) { return kWave == 32 ? lane / 4 + 8 * (i / 2) : lane / 16 * 4 + i; }
GRETA_DEVICE int result_token(int i, int lane = lane_id()) { return kWave == 32 ? lane % 4 * 2 + i % 2 : lane % 16; }

/// From the 16 bytes at tile_depth() of a row to a lane's operand. Every lane of the wave calls it.
GRETA_DEVICE Piece tile_operand(const Piece& read) {
  if constexpr (kWave == 64) return read;
  // Lanes t and t + 2 of the four of a row have 8 inputs each of either instruction; each gives the other half of them.
  const std::uint64_t low = read.word[0] | static_cast<std::uint64_t>(read.word[1]) << 32;
  const std::uint64_t high = read.word[2] | static_cast<std::uint64_t>(read.word[3]) << 32;
  const bool first = lane_id() % 4 < 2;  // its 16 bytes are of the first instruction
  const std::uint64_t given = shuffle_xor(first ? high : low, 2);
  const std::uint64_t words[2]{first ? low : given, first ? given : high};
  return {{static_cast<std::uint32_t>(words[0]), static_cast<std::uint32_t>(words[0] >> 32),
           static_cast<std::uint32_t>(words[1]), static_cast<std::uint32_t>(words[1] >> 32)}};
}

/// A step of A: the lane's operands of rows tile_row(i), words 2 j and 2 j + 1 for instruction j.
struct TileA {
  Piece piece[kLaneRows];
};
/// A step of B.
struct TileB {
  Piece piece;
};
/// Results of a lane, in F32 or exact integers.
struct Results {
  float at[kTileResults] = {};
};

#if defined(__CUDACC__)

template <DType kType>
GRETA_DEVICE void multiply_half(Results& sum, const TileA& a, const TileB& b, int half) {
  float* const d = sum.at;
  const std::uint32_t a0 = a.piece[0].word[2 * half], a1 = a.piece[1].word[2 * half];
  const std::uint32_t a2 = a.piece[0].word[2 * half + 1], a3 = a.piece[1].word[2 * half + 1];
  const std::uint32_t b0 = b.piece.word[2 * half], b1 = b.piece.word[2 * half + 1];
  if constexpr (kType == DType::f16) {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  } else {
    asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
  }
}
#elif defined(__HIP__)

using Float4 = float __attribute__((ext_vector_type(4)));
using Half4 = _Float16 __attribute__((ext_vector_type(4)));
using Short4 = short __attribute__((ext_vector_type(4)));
struct alignas(8) Words2 {
  std::uint32_t word[2];
};

template <DType kType>
GRETA_DEVICE void multiply_half(Results& sum, const TileA& a, const TileB& b, int half) {
  const Words2 aw{a.piece[0].word[2 * half], a.piece[0].word[2 * half + 1]};
  const Words2 bw{b.piece.word[2 * half], b.piece.word[2 * half + 1]};
  Float4 d = __builtin_bit_cast(Float4, sum);
  if constexpr (kType == DType::f16)
    d = __builtin_amdgcn_mfma_f32_16x16x16f16(__builtin_bit_cast(Half4, aw), __builtin_bit_cast(Half4, bw), d, 0, 0, 0);
  else
    d = __builtin_amdgcn_mfma_f32_16x16x16bf16_1k(__builtin_bit_cast(Short4, aw), __builtin_bit_cast(Short4, bw), d, 0, 0, 0);
  sum = __builtin_bit_cast(Results, d);
}

#else

/// One lane's operands of an emulated instruction.
struct TileCall {
  const TileA* a;
  const TileB* b;
  Results* sum;
  int lane;
};

template <DType kType>
void widen(const Piece& piece, float* out, int step) {
  for (int i = 0; i < 8; ++i) {
    const auto half = static_cast<std::uint16_t>(piece.word[i / 2] >> (16 * (i % 2)));
    out[i * step] = kType == DType::f16 ? f16_to_f32(half) : bf16_to_f32(half);
  }
}

/// sum[n] += a * b[n] over 32 inputs, every term added in F32 in ascending order. Products of two such numbers are exact in
/// F32.
template <DType kType, int kN>
void multiply(Results (&sum)[kN], const TileA& a, const TileB (&b)[kN]) {
  TileCall mine{&a, b, sum, lane_id()};
  wave_together(mine, [](std::span<TileCall* const> lanes) {
    float left[kTileRows][kTileDepth], right[kTileDepth][kTileTokens], total[kTileRows][kTileTokens];
    for (const TileCall* lane : lanes) {
      for (int i = 0; i < kLaneRows; ++i)
        widen<kType>(lane->a->piece[i], &left[tile_row(i, lane->lane)][tile_depth(lane->lane)], 1);
    }
    for (int tile = 0; tile < kN; ++tile) {
      const auto each_result = [&](const auto& act) {
        for (TileCall* lane : lanes) {
          for (int i = 0; i < kTileResults; ++i)
            act(lane->sum[tile].at[i], total[result_row(i, lane->lane)][result_token(i, lane->lane)]);
        }
      };
      for (const TileCall* lane : lanes)
        widen<kType>(lane->b[tile].piece, &right[tile_depth(lane->lane)][tile_token(lane->lane)], kTileTokens);
      each_result([](float& of_lane, float& of_tile) { of_tile = of_lane; });
      for (int k = 0; k < kTileDepth; ++k)
        for (int m = 0; m < kTileRows; ++m)
          for (int n = 0; n < kTileTokens; ++n) total[m][n] += left[m][k] * right[k][n];
      each_result([](float& of_lane, float& of_tile) { of_lane = of_tile; });
    }
  });
}

#endif

#if !defined(GRETA_GPU_EMULATED)
/// sum[n] += a * b[n] over 32 inputs, in two instructions of 16. What depends on one another is kept apart.
template <DType kType, int kN>
GRETA_DEVICE void multiply(Results (&sum)[kN], const TileA& a, const TileB (&b)[kN]) {
  GRETA_UNROLL
  for (int half = 0; half < 2; ++half) GRETA_UNROLL
  for (int n = 0; n < kN; ++n) multiply_half<kType>(sum[n], a, b[n], half);
}

#endif

}  // namespace greta::gpu::GRETA_GPU_TARGET
