// Route q8 of matmul, bit-equal to ops/q8 on the CPU: q8_few.h and q8_many.h say how. Here: which of them, and how large.
#include <algorithm>

#include "ops/gpu/kernels/q8_few.h"
#include "ops/gpu/kernels/q8_many.h"
#include "ops/gpu/kernels/table.h"
#include "ops/gpu/refusals.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr std::int64_t kMostFewRows = 16;
constexpr std::int64_t kPanelBytes = 64 << 20;                            // of codes that are unpacked together
constexpr std::size_t kFewShared = kWave == 64 ? 64 * 1024 : 112 * 1024;  // of a block of q8_few, at most

std::int64_t parts(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }
std::int64_t padded(std::int64_t n, std::int64_t size) { return parts(n, size) * size; }

template <DType kType, int kOuts, int kRows, KernelFault kFault>
void launch_few(Stream stream, const Q8Operands& p) {
  using Shape = Q8FewShape<kType, kOuts, kRows>;
  const auto shared = [&](int waves) {
    return static_cast<std::size_t>(kRows * span_bytes(p.n_slices) + waves * Shape::kWaveBytes);
  };
  static_assert(static_cast<std::size_t>(kRows * span_bytes(kSpan) + Shape::kWaveBytes) <= kFewShared);
  int waves = kQ8FewThreads / kWave;
  while (waves > 1 && (shared(waves) > kFewShared || parts(p.n_out, waves * kOuts) < 128)) waves /= 2;
  launch({.name = "matmul q8, few rows",
          .stream = stream,
          .x = parts(p.n_out, static_cast<std::int64_t>(waves) * kOuts),
          .y = parts(p.n_rows, kRows),
          .threads = waves * kWave,
          .shared = shared(waves)},
         &q8_few<kType, kOuts, kRows, kFault>, p);
}

/// The scratch memory of q8_many: rows, then a panel of weights at a time. Without memory it only counts.
class Scratch {
 public:
  Scratch(std::byte* memory, const q8::Format& format, std::int64_t n_slices, std::int64_t n_out, std::int64_t n_rows)
      : memory_(memory) {
    const std::int64_t subs = 32 / format.sub;
    rows_.n = padded(n_rows, kQ8BlockTokens);
    weights_.n = std::min(padded(n_out, kQ8BlockOutputs),
                          std::max<std::int64_t>(1, kPanelBytes / (n_slices * 32 * kQ8BlockOutputs)) * kQ8BlockOutputs);
    for (Q8Unpacked* part : {&rows_, &weights_}) {
      part->codes = take(part->n * n_slices * 32);
      part->scales = reinterpret_cast<float*>(take(part->n * n_slices * (part == &rows_ ? 1 : subs) * 4));
      if (format.minima) part->minima = reinterpret_cast<float*>(take(part->n * n_slices * subs * 4));
    }
  }
  const Q8Unpacked& rows() const { return rows_; }
  const Q8Unpacked& weights() const { return weights_; }
  std::size_t bytes() const { return static_cast<std::size_t>(used_); }

 private:
  std::byte* take(std::int64_t bytes) {
    std::byte* const part = memory_ == nullptr ? nullptr : memory_ + used_;
    used_ += padded(bytes, 256);
    return part;
  }
  std::byte* memory_;
  std::int64_t used_ = 0;
  Q8Unpacked rows_{}, weights_{};
};

template <DType kType, KernelFault kFault>
void launch_many(Stream stream, const Q8Operands& p, std::byte* memory) {
  using Slice = SliceOf<kType>;
  constexpr bool kMinima = Slice::kFormat.minima;
  const Scratch scratch(memory, Slice::kFormat, p.n_slices, p.n_out, p.n_rows);
  const std::int64_t slice_blocks = parts(p.n_slices, kQ8Threads / kWave);
  launch({.name = "matmul q8, rows unpacked",
          .stream = stream,
          .x = scratch.rows().n / kWave,
          .y = slice_blocks,
          .threads = kQ8Threads},
         &q8_unpack_rows<Slice::kSubs>, p, scratch.rows());
  for (std::int64_t first = 0; first < p.n_out; first += scratch.weights().n) {
    launch({.name = "matmul q8, weights unpacked",
            .stream = stream,
            .x = scratch.weights().n / kWave,
            .y = slice_blocks,
            .threads = kQ8Threads},
           &q8_unpack_weights<kType>, p, first, scratch.weights());
    launch({.name = "matmul q8, many rows",
            .stream = stream,
            .x = scratch.weights().n / kQ8BlockOutputs * (scratch.rows().n / kQ8BlockTokens),
            .threads = kQ8Threads,
            .shared = static_cast<std::size_t>(Q8Slab<Slice::kSubs, kMinima>::kSlabs * Q8Slab<Slice::kSubs, kMinima>::kBytes)},
           &q8_many<Slice::kSubs, kMinima, kFault>, Q8ManyOperands{p, scratch.weights(), scratch.rows(), first});
  }
}

/// Where rows are many there is no reduction for the fault wrong_wave_size to be in.
template <DType kType>
bool by_fault(Stream stream, const Q8Operands& p, const MatmulArgs& args) {
  constexpr KernelFault kNone = KernelFault::none, kF16 = KernelFault::f16_accumulation, kWrong = KernelFault::wrong_wave_size;
  const bool few = p.n_rows <= kMostFewRows;
  if (args.fault == kF16)
    few ? launch_few<kType, 4, 1, kF16>(stream, p) : launch_many<kType, kF16>(stream, p, args.scratch);
  else if (args.fault == kWrong && few)
    launch_few<kType, 4, 1, kWrong>(stream, p);
  else if (args.fault != kNone && args.fault != kWrong)
    return false;
  else if (!few)
    launch_many<kType, kNone>(stream, p, args.scratch);
  else
    p.n_rows == 1 ? launch_few<kType, 4, 1, kNone>(stream, p) : launch_few<kType, 4, 4, kNone>(stream, p);
  return true;
}

bool by_type(Stream stream, const Q8Operands& p, const MatmulArgs& args) {
  switch (args.weight.dtype) {
    case DType::q8_0:
      return by_fault<DType::q8_0>(stream, p, args);
    case DType::q4_0:
      return by_fault<DType::q4_0>(stream, p, args);
    case DType::q4_1:
      return by_fault<DType::q4_1>(stream, p, args);
    case DType::q5_0:
      return by_fault<DType::q5_0>(stream, p, args);
    case DType::q5_1:
      return by_fault<DType::q5_1>(stream, p, args);
    case DType::q2_k:
      return by_fault<DType::q2_k>(stream, p, args);
    case DType::q3_k:
      return by_fault<DType::q3_k>(stream, p, args);
    case DType::q4_k:
      return by_fault<DType::q4_k>(stream, p, args);
    case DType::q5_k:
      return by_fault<DType::q5_k>(stream, p, args);
    case DType::q6_k:
      return by_fault<DType::q6_k>(stream, p, args);
    case DType::iq4_nl:
      return by_fault<DType::iq4_nl>(stream, p, args);
    case DType::iq4_xs:
      return by_fault<DType::iq4_xs>(stream, p, args);
    default:
      return false;
  }
}

}  // namespace

void matmul_q8(Stream stream, const MatmulArgs& args) {
  const Q8Operands p{.x = args.x.data,
                     .weight = args.weight.data,
                     .out = args.out.data,
                     .bias = args.bias,
                     .x_stride = args.x.stride,
                     .row_bytes = row_bytes(args.weight.dtype, args.weight.n_cols),
                     .out_stride = args.out.stride,
                     .n_slices = args.weight.n_cols / kActivationBlock,
                     .n_out = args.weight.n_rows,
                     .n_rows = args.n_rows};
  if (args.x.dtype != DType::q8_f32 || args.weight.transposed || !by_type(stream, p, args)) refuse_matmul(args);
}

std::size_t matmul_q8_scratch(const MatmulArgs& args) {
  if (args.n_rows <= kMostFewRows || !is_block_type(args.weight.dtype)) return 0;
  return Scratch(nullptr, q8::format_of(args.weight.dtype), args.weight.n_cols / kActivationBlock, args.weight.n_rows,
                 args.n_rows)
      .bytes();
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
