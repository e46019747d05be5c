// Matrix product: every output is one 16-lane dot product over the inputs, in their order, whatever the number of rows.
//
// Few rows: weights are dequantised in registers, once for every block of rows. Many rows: a few outputs' weights are
// dequantised to a tile that stays in cache, and all rows pass over it. Both dequantise exactly, so both multiply the same
// floats in the same order.
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

using reference::MatmulArgs;

/// kRows rows by kOuts outputs: outputs o.. of rows r... `weights`: kOuts rows of kType, `stride` bytes apart.
template <DType kType, int kRows, int kOuts>
HWY_INLINE void dot_tile(const MatmulArgs& args, std::int64_t r, std::int64_t o, const std::byte* weights,
                         std::int64_t stride) {
  const float* x[kRows];
  Lanes sum[kRows][kOuts];
  for (int i = 0; i < kRows; ++i) {
    x[i] = args.x[r + i];
    for (int j = 0; j < kOuts; ++j) sum[i][j] = zero();
  }
  const auto step = [&](std::int64_t at, const Lanes(&w)[kOuts]) HWY_ATTR {
    for (int i = 0; i < kRows; ++i) {
      const Lanes v = load(x[i] + at);
      for (int j = 0; j < kOuts; ++j) sum[i][j] = fma(v, w[j], sum[i][j]);
    }
  };
  Lanes w[kOuts];
  std::int64_t k = 0;
  for (; k + 2 * kLanes <= args.n_in; k += 2 * kLanes) {
    for (int j = 0; j < kOuts; ++j) w[j] = load_half<kType, 0>(weights + j * stride, k);
    step(k, w);
    for (int j = 0; j < kOuts; ++j) w[j] = load_half<kType, 1>(weights + j * stride, k);
    step(k + kLanes, w);
  }
  if constexpr (kType != DType::q8_0 && kType != DType::q4_0) {
    if (k + kLanes <= args.n_in) {
      for (int j = 0; j < kOuts; ++j) w[j] = load_row<kType>(weights + j * stride, k);
      step(k, w);
      k += kLanes;
    }
    if (const std::int64_t rest = args.n_in - k; rest > 0) {
      for (int j = 0; j < kOuts; ++j) w[j] = load_row_tail<kType>(weights + j * stride, k, rest);
      for (int i = 0; i < kRows; ++i) {
        const Lanes v = load_first(x[i] + k, rest);
        for (int j = 0; j < kOuts; ++j) sum[i][j] = fma(v, w[j], sum[i][j]);
      }
    }
  }
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < kOuts; ++j) {
      const float dot = reduce_add(sum[i][j]);
      args.out[r + i][o + j] = args.bias != nullptr ? dot + args.bias[o + j] : dot;
    }
  }
}

/// All rows of kOuts outputs.
template <DType kType, int kOuts>
HWY_INLINE void dot_rows(const MatmulArgs& args, std::int64_t o, const std::byte* weights, std::int64_t stride) {
  std::int64_t r = 0;
  for (; r + 4 <= args.n_rows; r += 4) dot_tile<kType, 4, kOuts>(args, r, o, weights, stride);
  for (; r < args.n_rows; ++r) dot_tile<kType, 1, kOuts>(args, r, o, weights, stride);
}

/// Outputs [begin, end), whose weights begin at `weights`.
template <DType kType>
void dot_outputs(const MatmulArgs& args, std::int64_t begin, std::int64_t end, const std::byte* weights, std::int64_t stride) {
  std::int64_t o = begin;
  for (; o + 4 <= end; o += 4) dot_rows<kType, 4>(args, o, weights + (o - begin) * stride, stride);
  for (; o < end; ++o) dot_rows<kType, 1>(args, o, weights + (o - begin) * stride, stride);
}

void matmul_outputs(const MatmulArgs& args, DType dtype, std::int64_t begin, std::int64_t end, const std::byte* weights,
                    std::int64_t stride) {
  switch (dtype) {
    case DType::f16:
      return dot_outputs<DType::f16>(args, begin, end, weights, stride);
    case DType::bf16:
      return dot_outputs<DType::bf16>(args, begin, end, weights, stride);
    case DType::q8_0:
      return dot_outputs<DType::q8_0>(args, begin, end, weights, stride);
    case DType::q4_0:
      return dot_outputs<DType::q4_0>(args, begin, end, weights, stride);
    default:
      return dot_outputs<DType::f32>(args, begin, end, weights, stride);
  }
}

}  // namespace greta::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
#include <vector>

#include "core/blocks.h"
#include "ops/cpu/weight_rows.h"

namespace greta::reference {
namespace {

constexpr auto kOutputs = GRETA_PER_ISA(matmul_outputs);
constexpr std::int64_t kFewRows = 8;          // up to here, weights are dequantised in registers
constexpr std::int64_t kGrainWork = 1 << 16;  // multiply-adds a chunk, at least
constexpr std::int64_t kOutputGroup = 4;

}  // namespace

void matmul(const CpuContext& context, const TensorView& x, const WeightView& weight, const WeightView& bias,
            const TensorView& out) {
  const std::int64_t n_in = weight.n_cols;
  std::vector<const float*> inputs;
  std::vector<float*> outputs;
  for (std::int64_t r = 0; r < x.n_rows; ++r) {
    inputs.push_back(x.row_as<const float>(r));
    outputs.push_back(out.row_as<float>(r));
  }
  std::vector<float> offsets(bias ? static_cast<std::size_t>(weight.n_rows) : 0);
  if (bias) dequantize_row(bias.dtype, bias.data, weight.n_rows, offsets.data());
  const MatmulArgs args{inputs.data(), outputs.data(), bias ? offsets.data() : nullptr, x.n_rows, n_in};

  const auto kernel = kOutputs[context.isa];
  const bool in_place = weight.layout == WeightLayout::row_major && (x.n_rows <= kFewRows || weight.dtype == DType::f32);
  const std::int64_t groups = kGrainWork / (n_in * x.n_rows * kOutputGroup);
  const std::int64_t grain = std::max<std::int64_t>(groups, 1) * kOutputGroup;
  context.pool.for_ranges(weight.n_rows, grain, [&](std::int64_t begin, std::int64_t end) {
    if (in_place) return kernel(args, weight.dtype, begin, end, weight.row(begin), weight.row_size());
    std::vector<float> tile(static_cast<std::size_t>(kOutputGroup * n_in));
    for (std::int64_t o = begin; o < end; o += kOutputGroup) {
      const std::int64_t last = std::min(end, o + kOutputGroup);
      for (std::int64_t i = o; i < last; ++i) dequantize_output(weight, i, tile.data() + (i - o) * n_in);
      kernel(args, DType::f32, o, last, reinterpret_cast<const std::byte*>(tile.data()), n_in * std::int64_t{sizeof(float)});
    }
  });
}

}  // namespace greta::reference
#endif
