// Matrix product of route `reference`: every output is one 16-lane dot product over the inputs, in their order, as
// ops/reference/matmul.cpp; weights are dequantised exactly, the bias is added after the reduction.
//
// Few rows: 16 threads an output, which unpack its weights as they go. Many rows: tiles of rows by outputs through shared
// memory, where weights are floats. Both follow the same chains.
#include "ops/gpu/kernels/lane_tile.h"
#include "ops/gpu/kernels/lane_weights.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr std::int32_t kFewRows = 8;
constexpr int kFewThreads = 128;  // of a block: 8 outputs
constexpr int kAhead = 8;         // units of plain numbers on their way at once

/// Element (o, i) of a transposed matrix, and 0 beyond its end; of types that may be transposed.
template <DType kType>
GRETA_DEVICE float load_transposed(const WeightArg& weight, std::int64_t o, std::int64_t i) {
  if constexpr (kUnitGroups<kType> == 1) {
    return o < weight.n_rows && i < weight.n_cols ? load_number(kType, weight.data, i * weight.n_rows + o) : 0.0f;
  } else {
    return 0.0f;
  }
}

/// The weights of one output, for lane l.
template <DType kType>
struct LaneWeights {
  const WeightArg& weight;
  std::int64_t o;
  const std::byte* row;
  int l;

  GRETA_DEVICE void load(std::int64_t unit, float (&w)[kUnitGroups<kType>]) const {
    if constexpr (kUnitGroups<kType> == 1) {
      if (weight.transposed) {
        w[0] = load_transposed<kType>(weight, o, unit * kLanes + l);
        return;
      }
    }
    load_unit<kType>(row, unit, l, weight.n_cols, w);
  }
};

/// Element i of a row of x. kGeneral: of any type, else of f32.
template <bool kGeneral>
GRETA_DEVICE float load_x(const MatmulArgs& args, const std::byte* row, std::int64_t i) {
  return kGeneral ? load_activation(args.x.dtype, row, i) : reinterpret_cast<const float*>(row)[i];
}

/// Goes on with the chains of kRows rows over kUnits units of weights that `w` holds. rows[i]: a row of x.
template <DType kType, int kRows, int kUnits, bool kGeneral>
GRETA_DEVICE void fuse_units(const MatmulArgs& args, const std::byte* const (&rows)[kRows], std::int64_t unit, int l,
                             const float (&w)[kUnits][kUnitGroups<kType>], float (&sum)[kRows]) {
  constexpr int kGroups = kUnitGroups<kType>;
  GRETA_UNROLL
  for (int u = 0; u < kUnits; ++u) {
    GRETA_UNROLL
    for (int g = 0; g < kGroups; ++g) {
      const std::int64_t i = ((unit + u) * kGroups + g) * kLanes + l;
      GRETA_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const float x = kGroups > 1 || i < args.weight.n_cols ? load_x<kGeneral>(args, rows[r], i) : 0.0f;  // blocks are whole
        sum[r] = fma(x, w[u][g], sum[r]);
        if constexpr (kGeneral) {
          if (args.fault == KernelFault::f16_accumulation) sum[r] = through_half(sum[r]);
        }
      }
    }
  }
}

/// Fault unread_padding: what lies between the row's end and the next row enters too, with the weights of the row's start.
template <DType kType>
GRETA_DEVICE void fuse_padding(const MatmulArgs& args, const std::byte* row, const LaneWeights<kType>& weights, float& sum) {
  if (args.fault != KernelFault::unread_padding || args.x.dtype == DType::q8_f32) return;
  const std::int64_t padding = args.x.stride / (args.x.dtype == DType::f32 ? 4 : 2) - args.weight.n_cols;
  float w[kUnitGroups<kType>];
  weights.load(0, w);
  for (std::int64_t i = weights.l; i < padding; i += kLanes)
    sum = fma(load_number(args.x.dtype, row, args.weight.n_cols + i), w[0], sum);
}

/// Block (outputs, rows): rows block_y() * kRows.., 8 outputs. kGeneral: x of codes too, and the faults.
template <DType kType, int kRows, bool kGeneral>
GRETA_KERNEL_OF(kFewThreads, 1)
few_rows_kernel(MatmulArgs args, std::int64_t row_size) {
  constexpr int kGroups = kUnitGroups<kType>, kUnits = kGroups == 1 ? kAhead : kGroups == 2 ? 4 : 1;
  const std::int64_t o = std::int64_t{block_x()} * (kFewThreads / kLanes) + thread_id() / kLanes;
  const std::int64_t held = o < args.weight.n_rows ? o : args.weight.n_rows - 1;  // whole waves go on
  const int l = thread_id() % kLanes;
  const LaneWeights<kType> weights{args.weight, held, args.weight.data + held * row_size, l};
  const std::byte* rows[kRows];
  float sum[kRows];
  GRETA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    const int row = block_y() * kRows + r;
    rows[r] = args.x.data + (row < args.n_rows ? row : args.n_rows - 1) * args.x.stride;
    sum[r] = 0.0f;
  }
  const std::int64_t units = (args.weight.n_cols + kGroups * kLanes - 1) / (kGroups * kLanes);
  std::int64_t unit = 0;
  for (; unit + kUnits <= units; unit += kUnits) {
    float w[kUnits][kGroups];
    GRETA_UNROLL
    for (int u = 0; u < kUnits; ++u) weights.load(unit + u, w[u]);
    fuse_units<kType, kRows, kUnits, kGeneral>(args, rows, unit, l, w, sum);
  }
  for (; unit < units; ++unit) {
    float w[1][kGroups];
    weights.load(unit, w[0]);
    fuse_units<kType, kRows, 1, kGeneral>(args, rows, unit, l, w, sum);
  }
  GRETA_UNROLL
  for (int r = 0; r < kRows; ++r) {
    if constexpr (kGeneral) fuse_padding<kType>(args, rows[r], weights, sum[r]);
    const float dot = group_sum(sum[r]);
    const int row = block_y() * kRows + r;
    if (l != 0 || row >= args.n_rows || o >= args.weight.n_rows) continue;
    reinterpret_cast<float*>(args.out.data + row * args.out.stride)[o] = args.bias != nullptr ? dot + args.bias[o] : dot;
  }
}

using Tile = LaneTile<8, 8, 4, 4>;  // 32 rows by 32 outputs

/// Columns of weights in shared memory at a time: a unit of super-blocks, or as many as of x.
template <DType kType>
inline constexpr int kWeightDepth = kIsSuperBlock<kType> ? kSuperBlock : kDepth;
template <DType kType>
inline constexpr int kWeightStride = kWeightDepth<kType> + kLanes;

/// Brings columns begin.. of outputs first.. to shared memory as floats.
template <DType kType>
GRETA_DEVICE void stage_weights(float* to, const WeightArg& weight, std::int64_t row_size, bool aligned, std::int64_t first,
                                std::int64_t begin) {
  constexpr int kGroups = kUnitGroups<kType>, kStride = kWeightStride<kType>;
  if (weight.transposed) {
    for (int p = thread_id(); p < Tile::kRowsB * kWeightDepth<kType>; p += Tile::kThreads) {
      const int row = p % Tile::kRowsB, column = p / Tile::kRowsB;
      to[row * kStride + column] = load_transposed<kType>(weight, first + row, begin + column);
    }
  } else if constexpr (kGroups == 1) {
    stage_rows<Tile::kRowsB, Tile::kThreads>(to, kStride, kType, aligned, begin, weight.n_cols, [&](int i) {
      return first + i < weight.n_rows ? weight.data + (first + i) * row_size : nullptr;
    });
  } else {
    constexpr int kUnits = kWeightDepth<kType> / (kGroups * kLanes);  // of a row
    const int l = thread_id() % kLanes;
    for (int p = thread_id() / kLanes; p < Tile::kRowsB * kUnits; p += Tile::kThreads / kLanes) {
      const int row = p / kUnits, unit = p % kUnits;
      float w[kGroups] = {};
      if (first + row < weight.n_rows && begin + unit * kGroups * kLanes < weight.n_cols)
        load_unit<kType>(weight.data + (first + row) * row_size, begin / (kGroups * kLanes) + unit, l, weight.n_cols, w);
      GRETA_UNROLL
      for (int g = 0; g < kGroups; ++g) to[row * kStride + (unit * kGroups + g) * kLanes + l] = w[g];
    }
  }
}

/// Brings columns begin.. of rows first.. of x to shared memory as floats.
GRETA_DEVICE void stage_activations(float* to, const MatmulArgs& args, bool aligned, std::int64_t first, std::int64_t begin) {
  if (args.x.dtype != DType::q8_f32) {
    return stage_rows<Tile::kRowsA, Tile::kThreads>(
        to, kStagedStride, args.x.dtype, aligned, begin, args.weight.n_cols,
        [&](int i) { return first + i < args.n_rows ? args.x.data + (first + i) * args.x.stride : nullptr; });
  }
  for (int p = thread_id(); p < Tile::kRowsA * kDepth; p += Tile::kThreads) {
    const int row = p / kDepth, column = p % kDepth;
    const bool inside = first + row < args.n_rows && begin + column < args.weight.n_cols;
    to[row * kStagedStride + column] =
        inside ? load_activation(DType::q8_f32, args.x.data + (first + row) * args.x.stride, begin + column) : 0.0f;
  }
}

/// Block (tile of rows, tile of outputs), numbered along x so that neighbours share weights.
template <DType kType>
GRETA_KERNEL_OF(Tile::kThreads, 1)
many_rows_kernel(MatmulArgs args, std::int64_t row_size, int row_tiles, bool x_aligned, bool weight_aligned) {
  float* x = reinterpret_cast<float*>(shared_memory());
  float* weights = x + Tile::kRowsA * kStagedStride;
  const std::int64_t row = std::int64_t{block_x() % row_tiles} * Tile::kRowsA;
  const std::int64_t output = std::int64_t{block_x() / row_tiles} * Tile::kRowsB;
  float sum[Tile::kA * Tile::kB];
  GRETA_UNROLL
  for (int i = 0; i < Tile::kA * Tile::kB; ++i) sum[i] = 0.0f;
  for (std::int64_t begin = 0; begin < args.weight.n_cols; begin += kDepth) {
    const int part = static_cast<int>(begin % kWeightDepth<kType>);
    stage_activations(x, args, x_aligned, row, begin);
    if (part == 0) stage_weights<kType>(weights, args.weight, row_size, weight_aligned, output, begin);
    block_barrier();
    const std::int64_t left = (args.weight.n_cols - begin + kLanes - 1) / kLanes * kLanes;
    Tile::fuse(x, kStagedStride, weights + part, kWeightStride<kType>, left < kDepth ? static_cast<int>(left) : kDepth, sum);
    block_barrier();
  }
  scatter_sums(sum, Tile::lane());
  GRETA_UNROLL
  for (int n = 0; n < Tile::kOwn; ++n) {
    const std::int64_t r = row + Tile::row_a(n), o = output + Tile::row_b(n);
    if (r >= args.n_rows || o >= args.weight.n_rows) continue;
    reinterpret_cast<float*>(args.out.data + r * args.out.stride)[o] = args.bias != nullptr ? sum[n] + args.bias[o] : sum[n];
  }
}

template <DType kType, int kRows, bool kGeneral>
void run_few(Stream stream, const MatmulArgs& args, std::int64_t row_size) {
  const std::int64_t outputs = kFewThreads / kLanes;
  launch({"matmul", stream, (args.weight.n_rows + outputs - 1) / outputs, (args.n_rows + kRows - 1) / kRows, 1, kFewThreads},
         few_rows_kernel<kType, kRows, kGeneral>, args, row_size);
}

template <DType kType>
void run_many(Stream stream, const MatmulArgs& args, std::int64_t row_size) {
  const std::int64_t row_tiles = (args.n_rows + Tile::kRowsA - 1) / Tile::kRowsA;
  const std::int64_t output_tiles = (args.weight.n_rows + Tile::kRowsB - 1) / Tile::kRowsB;
  const bool x_aligned = all_aligned(args.x.data) && args.x.stride % 16 == 0;
  const bool weight_aligned = all_aligned(args.weight.data) && row_size % 16 == 0;
  launch({"matmul", stream, row_tiles * output_tiles, 1, 1, Tile::kThreads,
          (Tile::kRowsA * kStagedStride + Tile::kRowsB * kWeightStride<kType>)*sizeof(float)},
         many_rows_kernel<kType>, args, row_size, row_tiles, x_aligned, weight_aligned);
}

}  // namespace

void matmul_reference(Stream stream, const MatmulArgs& args) {
  if (args.n_rows < 1) return;
  with_weight_type("matmul", args.weight.dtype, [&](auto type) {
    const std::int64_t row_size = row_bytes(args.weight.dtype, args.weight.n_cols);
    const bool faulty = args.fault == KernelFault::f16_accumulation || args.fault == KernelFault::unread_padding;
    if (faulty || (args.x.dtype != DType::f32 && args.n_rows <= kFewRows))
      return run_few<type(), 1, true>(stream, args, row_size);
    if (args.n_rows == 1) return run_few<type(), 1, false>(stream, args, row_size);
    if (args.n_rows <= kFewRows) return run_few<type(), 4, false>(stream, args, row_size);
    run_many<type()>(stream, args, row_size);
  });
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
