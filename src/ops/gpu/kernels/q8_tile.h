// Products of codes of 8 bits, exact in 32-bit integers: four of a lane, or a tile of a wave (tile.h says who holds which rows;
// a lane's operand here is 8 consecutive codes of a row, from tile_depth() on of 32).
//   waves of 32: mma.sync m16n8k32 s8 (PTX ISA, "Matrix Fragments for mma.m16n8k32")
//   waves of 64: v_mfma_i32_16x16x32_i8, or on gfx90a v_mfma_i32_16x16x16_i8 twice
#pragma once

#include "ops/gpu/kernels/tile.h"

namespace greta::gpu::GRETA_GPU_TARGET {

struct alignas(8) Codes8 {
  std::uint32_t word[2];
};
struct CodesA {
  Codes8 row[kLaneRows];
};
struct CodeSums {
  std::int32_t at[kTileResults] = {};
};

/// sum + the products of the four signed bytes of a with those of b.
GRETA_DEVICE std::int32_t dot4(std::int32_t sum, std::uint32_t a, std::uint32_t b) {
#if defined(__CUDACC__)
  return __dp4a(static_cast<int>(a), static_cast<int>(b), sum);
#elif defined(__HIP__)
  return __builtin_amdgcn_sdot4(static_cast<int>(a), static_cast<int>(b), sum, false);
#else
  for (int i = 0; i < 32; i += 8) sum += static_cast<std::int8_t>(a >> i) * static_cast<std::int8_t>(b >> i);
  return sum;
#endif
}

#if defined(GRETA_GPU_EMULATED)

struct CodeTileCall {
  const CodesA* a;
  const Codes8* b;
  CodeSums* sum;
  int lane;
};

inline void multiply_codes(CodeSums& sum, const CodesA& a, const Codes8& b) {
  CodeTileCall mine{&a, &b, &sum, lane_id()};
  wave_together(mine, [](std::span<CodeTileCall* const> lanes) {
    std::int8_t left[kTileRows][kTileDepth], right[kTileTokens][kTileDepth];
    for (const CodeTileCall* lane : lanes) {
      const int depth = tile_depth(lane->lane);
      for (int i = 0; i < kLaneRows; ++i) std::memcpy(&left[tile_row(i, lane->lane)][depth], lane->a->row[i].word, 8);
      std::memcpy(&right[tile_token(lane->lane)][depth], lane->b->word, 8);
    }
    for (CodeTileCall* lane : lanes) {
      for (int i = 0; i < kTileResults; ++i) {
        const std::int8_t* m = left[result_row(i, lane->lane)];
        const std::int8_t* n = right[result_token(i, lane->lane)];
        std::int32_t total = 0;
        for (int k = 0; k < kTileDepth; ++k) total += m[k] * n[k];
        lane->sum->at[i] += total;
      }
    }
  });
}

#elif defined(__CUDACC__)

/// sum += a * b over 32 codes.
GRETA_DEVICE void multiply_codes(CodeSums& sum, const CodesA& a, const Codes8& b) {
  std::int32_t* const d = sum.at;
  asm("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
      : "r"(a.row[0].word[0]), "r"(a.row[1].word[0]), "r"(a.row[0].word[1]), "r"(a.row[1].word[1]), "r"(b.word[0]),
        "r"(b.word[1]));
}

#else

using Int4 = int __attribute__((ext_vector_type(4)));

GRETA_DEVICE void multiply_codes(CodeSums& sum, const CodesA& a, const Codes8& b) {
  Int4 d = __builtin_bit_cast(Int4, sum);
#if defined(__gfx90a__)
  for (int i = 0; i < 2; ++i)
    d = __builtin_amdgcn_mfma_i32_16x16x16i8(static_cast<int>(a.row[0].word[i]), static_cast<int>(b.word[i]), d, 0, 0, 0);
#else
  d = __builtin_amdgcn_mfma_i32_16x16x32_i8(__builtin_bit_cast(long, a.row[0]), __builtin_bit_cast(long, b), d, 0, 0, 0);
#endif
  sum = __builtin_bit_cast(CodeSums, d);
}

#endif

}  // namespace greta::gpu::GRETA_GPU_TARGET
