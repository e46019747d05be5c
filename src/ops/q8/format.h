// What the integer kernels need to know of a weight type, and the operands they work on.
#pragma once

#include <cstddef>
#include <cstdint>

#include "core/dtype.h"

namespace greta::q8 {

/// Elements that are unpacked together: a super-block, or eight blocks of 32.
inline constexpr int kGroup = 256;
inline constexpr int kBlocksOfGroup = kGroup / 32;
/// Outputs of a tile: one a lane.
inline constexpr int kTileOuts = 16;

/// Weight = d * (code - offset) + m with codes of 8 bits unsigned.
struct Format {
  int sub;  // elements that share d and m: 32 or 16
  int offset;
  bool minima;  // m is not 0
  bool small;   // codes below 64: two products of them with activation codes fit 16 bits
  friend constexpr bool operator==(const Format&, const Format&) = default;
};

constexpr Format format_of(DType dtype) {
  switch (dtype) {
    case DType::q4_0:
      return {32, 8, false, true};
    case DType::q4_1:
      return {32, 0, true, true};
    case DType::q5_0:
      return {32, 16, false, true};
    case DType::q5_1:
      return {32, 0, true, true};
    case DType::q2_k:
      return {16, 0, true, true};
    case DType::q3_k:
      return {16, 4, false, true};
    case DType::q4_k:
      return {32, 0, true, true};
    case DType::q5_k:
      return {32, 0, true, true};
    case DType::q6_k:
      return {16, 32, false, true};
    default:  // q8_0, iq4_nl, iq4_xs: signed bytes
      return {32, 128, false, false};
  }
}

/// One group of a tile of 16 outputs, lane by lane. `codes[k]` holds codes 4k..4k+3 of each output.
struct alignas(64) Group {
  std::uint8_t codes[kGroup / 4][kTileOuts * 4];
  float scales[2 * kGroup / 16][kTileOuts];  // d of the sub-blocks, then their m
};

/// A row of activations.
struct Row {
  const std::int8_t* codes;
  const float* d;             // of a block of 32
  const std::int32_t* start;  // of a sub-block: -offset * X
  const float* sums;          // of a sub-block: x.d * X
};

/// out[r][o] for all rows and outputs [begin, end), at most kTileOuts.
struct TileArgs {
  DType dtype;
  const std::byte* weight;  // row `begin`
  std::int64_t stride;      // bytes from one output's weights to the next
  std::int64_t begin, end;
  std::int64_t n_blocks;  // of 32 inputs
  const Row* rows;
  std::int64_t n_rows;
  float* const* out;  // n_rows pointers to outputs
  const float* bias;  // an entry an output, or null
  Group* panel;       // one a group of inputs where n_rows > kFusedRows
};

/// Up to so many rows a tile is unpacked a group at a time and used at once; more rows share a panel of all groups.
inline constexpr std::int64_t kFusedRows = 2;

}  // namespace greta::q8
