// Matrix product: every output is one 16-lane dot product over the inputs, in their order, whatever the number of rows.
//
// Few rows (for most formats: one row): weights are dequantised in registers. Many rows: a block of weights is dequantised to
// floats that stay in cache, and all rows pass over it; sums that span blocks of inputs wait in memory as their 16 lanes, so
// each lane's chain goes on where it stopped. Both dequantise exactly, so both multiply the same floats in the same order. The
// bias is added after the reduction.
#include "ops/cpu/targets.h"
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/reference/matmul.cpp"
#include <hwy/foreach_target.h>
// After foreach_target.h, which flips its guard.
#include "ops/cpu/lanes.h"
#include "ops/reference/matmul.h"
#include "ops/reference/reference.h"

HWY_BEFORE_NAMESPACE();
namespace greta::HWY_NAMESPACE {

using reference::kBlockIns;
using reference::kBlockOuts;
using reference::kBlockRows;
using reference::MatmulArgs;

// Rows and outputs of a register tile: as many sums as the registers hold beside their operands.
#if HWY_TARGET == HWY_AVX3
constexpr int kTileRows = 6;
constexpr int kTileOuts = 4;
#else
constexpr int kTileRows = 3;
constexpr int kTileOuts = 2;
#endif
constexpr int kSingleRowOuts = 4;

template <int kRows, int kOuts>
struct Tile {
  Lanes sum[kRows][kOuts];
};

/// Goes on with the sums of a tile over `n` inputs. x: kRows rows; weights: kOuts rows of kType, `stride` bytes apart.
template <DType kType, int kRows, int kOuts>
HWY_INLINE void accumulate(const float* const* x, const std::byte* weights, std::int64_t stride, std::int64_t n,
                           Tile<kRows, kOuts>& tile) {
  const auto step = [&](std::int64_t at, const Lanes(&w)[kOuts]) HWY_ATTR {
    for (int i = 0; i < kRows; ++i) {
      const Lanes v = load(x[i] + at);
      for (int j = 0; j < kOuts; ++j) tile.sum[i][j] = fma(v, w[j], tile.sum[i][j]);
    }
  };
  Lanes w[kOuts];
  std::int64_t k = 0;
  for (; k + 2 * kLanes <= n; k += 2 * kLanes) {
    for (int j = 0; j < kOuts; ++j) w[j] = load_half<kType, 0>(weights + j * stride, k);
    step(k, w);
    for (int j = 0; j < kOuts; ++j) w[j] = load_half<kType, 1>(weights + j * stride, k);
    step(k + kLanes, w);
  }
  if constexpr (!kIsBlockOf32<kType>) {  // whole blocks leave no rest
    if (k + kLanes <= n) {
      for (int j = 0; j < kOuts; ++j) w[j] = load_row<kType>(weights + j * stride, k);
      step(k, w);
      k += kLanes;
    }
    if (const std::int64_t rest = n - k; rest > 0) {
      for (int j = 0; j < kOuts; ++j) w[j] = load_row_tail<kType>(weights + j * stride, k, rest);
      for (int i = 0; i < kRows; ++i) {
        const Lanes v = load_first(x[i] + k, rest);
        for (int j = 0; j < kOuts; ++j) tile.sum[i][j] = fma(v, w[j], tile.sum[i][j]);
      }
    }
  }
}

/// The same for super-blocks, whose scales are multiplied out once for 256 inputs.
template <DType kType, int kRows, int kOuts>
HWY_INLINE void accumulate_super(const float* const* x, const std::byte* weights, std::int64_t stride, std::int64_t n,
                                 Tile<kRows, kOuts>& tile) {
  for (std::int64_t k = 0; k < n; k += kSuperBlock) {
    const BlockOf<kType>* blocks[kOuts];
    SubScales scales[kOuts];
    for (int j = 0; j < kOuts; ++j) {
      blocks[j] = reinterpret_cast<const BlockOf<kType>*>(weights + j * stride) + k / kSuperBlock;
      load_scales(*blocks[j], scales[j]);
    }
    for_groups([&](auto group) HWY_ATTR {
      Lanes w[kOuts];
      for (int j = 0; j < kOuts; ++j) w[j] = load_group<group()>(*blocks[j], scales[j]);
      for (int i = 0; i < kRows; ++i) {
        const Lanes v = load(x[i] + k + group() * kLanes);
        for (int j = 0; j < kOuts; ++j) tile.sum[i][j] = fma(v, w[j], tile.sum[i][j]);
      }
    });
  }
}

/// Reduces a tile and writes rows r.. of outputs o...
template <int kRows, int kOuts>
HWY_INLINE void finish(const MatmulArgs& args, std::int64_t r, std::int64_t o, const Tile<kRows, kOuts>& tile) {
  float dots[kRows * kOuts];
  constexpr int kQuads = kRows * kOuts / 4 * 4;
  const auto sum = [&](int n) HWY_ATTR -> const Lanes& { return tile.sum[n / kOuts][n % kOuts]; };
  for (int n = 0; n < kQuads; n += 4) reduce_add4(sum(n), sum(n + 1), sum(n + 2), sum(n + 3), dots + n);
  for (int n = kQuads; n < kRows * kOuts; ++n) dots[n] = reduce_add(sum(n));
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kOuts; ++j) {
      const float dot = dots[i * kOuts + j];
      args.out[r + i][o + j] = args.bias != nullptr ? dot + args.bias[o + j] : dot;
    }
  }
}

/// Calls tile(r, std::integral_constant rows) for rows [begin, end) in tiles of kRows, then one of the rest.
template <int kRows, class F>
HWY_INLINE void for_row_tiles(std::int64_t begin, std::int64_t end, const F& tile) {
  std::int64_t r = begin;
  for (; r + kRows <= end; r += kRows) tile(r, std::integral_constant<int, kRows>());
  if constexpr (kRows > 1) {
    if (r < end) for_row_tiles<kRows - 1>(r, end, tile);
  }
}

// --- few rows ----------------------------------------------------------------------------------------------------------------

template <DType kType, int kRows, int kOuts>
HWY_INLINE void few_tile(const MatmulArgs& args, std::int64_t r, std::int64_t o) {
  Tile<kRows, kOuts> tile;
  for (auto& row : tile.sum) {
    for (Lanes& sum : row) sum = zero();
  }
  const std::byte* weights = args.weight + (o - args.begin) * args.stride;
  if constexpr (kIsSuperBlock<kType>) {
    accumulate_super<kType, kRows, kOuts>(args.x + r, weights, args.stride, args.n_in, tile);
  } else {
    accumulate<kType, kRows, kOuts>(args.x + r, weights, args.stride, args.n_in, tile);
  }
  finish(args, r, o, tile);
}

/// A single row of any type.
template <DType kType>
void one_row(const MatmulArgs& args) {
  std::int64_t o = args.begin;
  for (; o + kSingleRowOuts <= args.end; o += kSingleRowOuts) few_tile<kType, 1, kSingleRowOuts>(args, 0, o);
  for (; o < args.end; ++o) few_tile<kType, 1, 1>(args, 0, o);
}

template <DType kType>
void few_rows(const MatmulArgs& args) {
  std::int64_t o = args.begin;
  if (args.n_rows == 1) {
    for (; o + kSingleRowOuts <= args.end; o += kSingleRowOuts) few_tile<kType, 1, kSingleRowOuts>(args, 0, o);
  }
  for (; o + kTileOuts <= args.end; o += kTileOuts) {
    for_row_tiles<kTileRows>(0, args.n_rows,
                             [&](std::int64_t r, auto rows) HWY_ATTR { few_tile<kType, rows(), kTileOuts>(args, r, o); });
  }
  for (; o < args.end; ++o) {
    for_row_tiles<kTileRows>(0, args.n_rows,
                             [&](std::int64_t r, auto rows) HWY_ATTR { few_tile<kType, rows(), 1>(args, r, o); });
  }
}

void matmul_few(const MatmulArgs& args) {
  switch (args.dtype) {
    case DType::f16:
      return few_rows<DType::f16>(args);
    case DType::bf16:
      return few_rows<DType::bf16>(args);
    case DType::q8_0:
      return few_rows<DType::q8_0>(args);
    case DType::q4_0:
      return few_rows<DType::q4_0>(args);
    case DType::q4_1:
      return one_row<DType::q4_1>(args);
    case DType::q5_0:
      return one_row<DType::q5_0>(args);
    case DType::q5_1:
      return one_row<DType::q5_1>(args);
    case DType::iq4_nl:
      return one_row<DType::iq4_nl>(args);
    case DType::q2_k:
      return one_row<DType::q2_k>(args);
    case DType::q3_k:
      return one_row<DType::q3_k>(args);
    case DType::q4_k:
      return one_row<DType::q4_k>(args);
    case DType::q5_k:
      return one_row<DType::q5_k>(args);
    case DType::q6_k:
      return one_row<DType::q6_k>(args);
    case DType::iq4_xs:
      return one_row<DType::iq4_xs>(args);
    default:
      return few_rows<DType::f32>(args);
  }
}

// --- many rows ---------------------------------------------------------------------------------------------------------------

/// Inputs [k, k + n) of a row of weights as floats; k is a multiple of a block, and so is n of block types.
template <DType kType>
HWY_INLINE void widen(const std::byte* row, std::int64_t k, std::int64_t n, float* out) {
  std::int64_t i = 0;
  if constexpr (kIsSuperBlock<kType>) {
    for (; i < n; i += kSuperBlock) {
      const auto& block = reinterpret_cast<const BlockOf<kType>*>(row)[(k + i) / kSuperBlock];
      SubScales scales;
      load_scales(block, scales);
      for_groups([&](auto group) HWY_ATTR { store(load_group<group()>(block, scales), out + i + group() * kLanes); });
    }
    return;
  } else {
    for (; i + 2 * kLanes <= n; i += 2 * kLanes) {
      store(load_half<kType, 0>(row, k + i), out + i);
      store(load_half<kType, 1>(row, k + i), out + i + kLanes);
    }
    if constexpr (!kIsBlockOf32<kType>) {
      for (; i + kLanes <= n; i += kLanes) store(load_row<kType>(row, k + i), out + i);
      if (i < n) store_first(load_row_tail<kType>(row, k + i, n - i), out + i, n - i);
    }
  }
}

void widen_row(DType dtype, const std::byte* row, std::int64_t k, std::int64_t n, float* out) {
  switch (dtype) {
    case DType::f16:
      return widen<DType::f16>(row, k, n, out);
    case DType::bf16:
      return widen<DType::bf16>(row, k, n, out);
    case DType::q8_0:
      return widen<DType::q8_0>(row, k, n, out);
    case DType::q4_0:
      return widen<DType::q4_0>(row, k, n, out);
    case DType::q4_1:
      return widen<DType::q4_1>(row, k, n, out);
    case DType::q5_0:
      return widen<DType::q5_0>(row, k, n, out);
    case DType::q5_1:
      return widen<DType::q5_1>(row, k, n, out);
    case DType::iq4_nl:
      return widen<DType::iq4_nl>(row, k, n, out);
    case DType::q2_k:
      return widen<DType::q2_k>(row, k, n, out);
    case DType::q3_k:
      return widen<DType::q3_k>(row, k, n, out);
    case DType::q4_k:
      return widen<DType::q4_k>(row, k, n, out);
    case DType::q5_k:
      return widen<DType::q5_k>(row, k, n, out);
    case DType::q6_k:
      return widen<DType::q6_k>(row, k, n, out);
    case DType::iq4_xs:
      return widen<DType::iq4_xs>(row, k, n, out);
    default:
      return widen<DType::f32>(row, k, n, out);
  }
}

/// One block of inputs [k, k + n) for a tile of rows r.. and outputs o..: `weights` as floats, kBlockIns apart; `waiting` holds
/// the tile's sums between blocks.
template <int kRows, int kOuts>
HWY_INLINE void many_tile(const MatmulArgs& args, std::int64_t r, std::int64_t o, std::int64_t k, std::int64_t n,
                          const float* weights, float* waiting) {
  const float* x[kRows];
  for (int i = 0; i < kRows; ++i) x[i] = args.x[r + i] + k;
  Tile<kRows, kOuts> tile;
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kOuts; ++j) tile.sum[i][j] = k == 0 ? zero() : load(waiting + (i * kBlockOuts + j) * kLanes);
  }
  accumulate<DType::f32, kRows, kOuts>(x, reinterpret_cast<const std::byte*>(weights), kBlockIns * std::int64_t{sizeof(float)},
                                       n, tile);
  if (k + n == args.n_in) return finish(args, r, o, tile);
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kOuts; ++j) store(tile.sum[i][j], waiting + (i * kBlockOuts + j) * kLanes);
  }
}

/// Rows [row_begin, row_end), at most kBlockRows, of at most kBlockOuts outputs.
void matmul_block(const MatmulArgs& args, std::int64_t row_begin, std::int64_t row_end, float* scratch) {
  float* const weights = scratch;
  float* const sums = scratch + kBlockOuts * kBlockIns;
  for (std::int64_t k = 0; k < args.n_in; k += kBlockIns) {
    const std::int64_t n = args.n_in - k < kBlockIns ? args.n_in - k : kBlockIns;
    for (std::int64_t o = args.begin; o < args.end; ++o) {
      widen_row(args.dtype, args.weight + (o - args.begin) * args.stride, k, n, weights + (o - args.begin) * kBlockIns);
    }
    for_row_tiles<kTileRows>(row_begin, row_end, [&](std::int64_t r, auto rows) HWY_ATTR {
      std::int64_t o = args.begin;
      const auto waiting = [&] { return sums + ((r - row_begin) * kBlockOuts + (o - args.begin)) * kLanes; };
      for (; o + kTileOuts <= args.end; o += kTileOuts) {
        many_tile<rows(), kTileOuts>(args, r, o, k, n, weights + (o - args.begin) * kBlockIns, waiting());
      }
      for (; o < args.end; ++o) many_tile<rows(), 1>(args, r, o, k, n, weights + (o - args.begin) * kBlockIns, waiting());
    });
  }
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <vector>

#include "core/activation_blocks.h"
#include "core/blocks.h"
#include "ops/cpu/weight_rows.h"

namespace greta::reference {
namespace {

constexpr auto kFew = GRETA_PER_ISA(matmul_few);
constexpr auto kBlock = GRETA_PER_ISA(matmul_block);
constexpr std::int64_t kFewRows = 8;          // up to here weights are dequantised in registers, again for every tile
constexpr std::int64_t kGrainWork = 1 << 16;  // multiply-adds that are worth another thread
constexpr std::int64_t kOutputGroup = 4;

/// How many rows are few: formats whose codes take work to unpack are unpacked once for all rows, into floats, from two rows
/// on.
std::int64_t few_rows_of(const WeightView& weight) {
  return weight.layout == WeightLayout::transposed || weight.dtype <= DType::q4_0 ? kFewRows : 1;
}

/// Points `args` at outputs [begin, end) of `weight`. Transposed weights are gathered to floats in `gathered`, which is as
/// large as they need.
void set_outputs(MatmulArgs& args, const WeightView& weight, std::int64_t begin, std::int64_t end,
                 std::vector<float>& gathered) {
  args.begin = begin;
  args.end = end;
  if (weight.layout == WeightLayout::row_major) {
    args.dtype = weight.dtype;
    args.weight = weight.row(begin);
    args.stride = weight.row_size();
    return;
  }
  gathered.resize(static_cast<std::size_t>((end - begin) * weight.n_cols));
  dequantize_outputs(weight, begin, end, gathered.data());
  args.dtype = DType::f32;
  args.weight = reinterpret_cast<const std::byte*>(gathered.data());
  args.stride = weight.n_cols * std::int64_t{sizeof(float)};
}

}  // namespace

void matmul(const CpuContext& context, const TensorView& x, const WeightView& weight, const WeightView& bias,
            const TensorView& out) {
  std::vector<const float*> inputs;
  std::vector<float*> outputs;
  const bool narrow = x.dtype != DType::f32;
  std::vector<float> widened(narrow ? static_cast<std::size_t>(x.n_rows * x.n_cols) : 0);
  for (std::int64_t r = 0; r < x.n_rows; ++r) {
    float* const own = narrow ? widened.data() + r * x.n_cols : nullptr;
    if (x.dtype == DType::q8_f32) {
      dequantize_activations(x.row(r), x.n_cols, own);
    } else if (narrow) {
      dequantize_row(x.dtype, x.row(r), x.n_cols, own);  // f16 or bf16
    }
    inputs.push_back(narrow ? own : x.row_as<const float>(r));
    outputs.push_back(out.row_as<float>(r));
  }
  std::vector<float> offsets(bias ? static_cast<std::size_t>(weight.n_rows) : 0);
  if (bias) dequantize_row(bias.dtype, bias.data, weight.n_rows, offsets.data());
  const MatmulArgs shared{
      inputs.data(), outputs.data(), bias ? offsets.data() : nullptr, x.n_rows, weight.n_cols, {}, nullptr, 0, 0, 0};

  if (x.n_rows <= few_rows_of(weight)) {
    const std::int64_t groups = kGrainWork / (weight.n_cols * x.n_rows * kOutputGroup) + 1;
    context.pool.for_ranges(weight.n_rows, groups * kOutputGroup, [&](std::int64_t begin, std::int64_t end) {
      MatmulArgs args = shared;
      std::vector<float> gathered;
      set_outputs(args, weight, begin, end, gathered);
      kFew[context.isa](args);
    });
    return;
  }
  const std::int64_t row_blocks = (x.n_rows + kBlockRows - 1) / kBlockRows;
  const std::int64_t out_blocks = (weight.n_rows + kBlockOuts - 1) / kBlockOuts;
  // Output blocks outermost: neighbours in time share the weights, and a row block's inputs stay in the shared cache.
  context.pool.parallel_for(row_blocks * out_blocks, [&](std::int64_t chunk) {
    static thread_local std::vector<float> scratch(static_cast<std::size_t>(kBlockScratch));
    const std::int64_t begin = chunk / row_blocks * kBlockOuts;
    const std::int64_t row = chunk % row_blocks * kBlockRows;
    MatmulArgs args = shared;
    std::vector<float> gathered;
    set_outputs(args, weight, begin, std::min(begin + kBlockOuts, weight.n_rows), gathered);
    kBlock[context.isa](args, row, std::min(row + kBlockRows, x.n_rows), scratch.data());
  });
}

}  // namespace greta::reference
#endif
