// Matrix products on matrix cores, the same bits for every number of rows: matmul_chunks.h says what is summed in which order,
// matmul_few.h and matmul_many.h who computes it. Here: which of them, and how large.
#include <algorithm>

#include "ops/gpu/kernels/matmul_few.h"
#include "ops/gpu/kernels/matmul_many.h"
#include "ops/gpu/kernels/matmul_wide.h"
#include "ops/gpu/kernels/table.h"
#include "ops/gpu/refusals.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr int kFewRows = 32;           // at most in matmul_few
constexpr std::int64_t kBlocks = 132;  // that fill a device, nearly; it decides who computes what and nothing else
constexpr KernelFault kFaults[]{KernelFault::none, KernelFault::missing_barrier, KernelFault::f16_accumulation,
                                KernelFault::unread_padding, KernelFault::merge_stride};

std::int64_t parts(std::int64_t n, std::int64_t size) { return (n + size - 1) / size; }

template <DType kType, int kTokenTiles, bool kAligned, KernelFault kFault>
void launch_few(Stream stream, const ProductOperands& p) {
  constexpr int kTokens = kTokenTiles * kTileTokens;
  // Half-filled tiles cost nothing where reading is what takes time, and give twice the blocks.
  const int outputs = parts(p.n_out, kTileRows) < 2 * kBlocks - kBlocks / 4 ? kTileRows / 2 : kTileRows;
  const auto waves = std::min<std::int64_t>(kFewThreads / kWave, parts(p.n_in, kChunk));
  launch({.name = "matmul invariant, few rows",
          .stream = stream,
          .x = parts(p.n_out, outputs),
          .y = parts(p.n_rows, kTokens),
          .threads = static_cast<int>(waves) * kWave,
          .shared = few_shared_bytes(kTokens)},
         &matmul_few<kType, kTokenTiles, kAligned, kFault>, p, outputs);
}

template <DType kType, int kTiles, bool kAligned, KernelFault kFault>
void launch_many(Stream stream, const ProductOperands& p) {
  using Shape = ManyShape<kTiles, kAligned>;
  launch({.name = "matmul invariant, many rows",
          .stream = stream,
          .x = parts(p.n_out, Shape::kOutputs) * parts(p.n_rows, Shape::kTokens),
          .threads = kManyThreads,
          .shared = Shape::kShared},
         &matmul_many<kType, kTiles, kAligned, kFault>, p);
}

template <DType kType, KernelFault kFault>
void launch_wide(Stream stream, const ProductOperands& p) {
  launch({.name = "matmul invariant, many rows",
          .stream = stream,
          .x = parts(p.n_out, WideShape::kOutputs) * parts(p.n_rows, WideShape::kTokens),
          .threads = WideShape::kThreads,
          .shared = WideShape::kShared},
         &matmul_wide<kType, kFault>, p);
}

template <DType kType, bool kAligned, KernelFault kFault>
void by_rows(Stream stream, const ProductOperands& p) {
  if (p.n_rows <= kTileTokens) return launch_few<kType, 1, kAligned, kFault>(stream, p);
  if (p.n_rows <= kFewRows) return launch_few<kType, kFewRows / kTileTokens, kAligned, kFault>(stream, p);
  // A block of wide tiles is so much faster than others that half of the multiprocessors are enough.
  if constexpr (kWideTiles && kAligned) {
    if (parts(p.n_out, WideShape::kOutputs) * parts(p.n_rows, WideShape::kTokens) >= kBlocks / 2)
      return launch_wide<kType, kFault>(stream, p);
  }
  using Large = ManyShape<4, kAligned>;
  if (parts(p.n_out, Large::kOutputs) * parts(p.n_rows, Large::kTokens) >= kBlocks)
    return launch_many<kType, 4, kAligned, kFault>(stream, p);
  launch_many<kType, 2, kAligned, kFault>(stream, p);
}

template <DType kType, KernelFault kFault>
void by_alignment(Stream stream, ProductOperands p) {
  if constexpr (kFault == KernelFault::unread_padding) {
    p.n_in = std::max(p.n_in, p.x_stride / 2);
    return by_rows<kType, false, kFault>(stream, p);
  }
  const auto low_bits = [](const std::byte* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); };
  const std::uintptr_t any = low_bits(p.x) | low_bits(p.weight) | static_cast<std::uintptr_t>(p.x_stride | 2 * p.n_cols);
  if (any % kPieceBytes == 0) return by_rows<kType, true, kFault>(stream, p);
  by_rows<kType, false, kFault>(stream, p);
}

/// False where the kernels have no such fault.
template <DType kType, std::size_t kIndex = 0>
bool by_fault(Stream stream, const ProductOperands& p, KernelFault fault) {
  if constexpr (kIndex < std::size(kFaults)) {
    if (fault != kFaults[kIndex]) return by_fault<kType, kIndex + 1>(stream, p, fault);
    by_alignment<kType, kFaults[kIndex]>(stream, p);
    return true;
  } else {
    return false;
  }
}

}  // namespace

void matmul_invariant(Stream stream, const MatmulArgs& args) {
  const ProductOperands p{.x = args.x.data,
                          .weight = args.weight.data,
                          .out = args.out.data,
                          .bias = args.bias,
                          .x_stride = args.x.stride,
                          .out_stride = args.out.stride,
                          .n_in = args.weight.n_cols,
                          .n_cols = args.weight.n_cols,
                          .n_out = args.weight.n_rows,
                          .n_rows = args.n_rows};
  const DType type = args.weight.dtype;
  const bool takes = args.x.dtype == type && !args.weight.transposed;
  if (takes && type == DType::f16 && by_fault<DType::f16>(stream, p, args.fault)) return;
  if (takes && type == DType::bf16 && by_fault<DType::bf16>(stream, p, args.fault)) return;
  refuse_matmul(args);
}

std::size_t matmul_invariant_scratch(const MatmulArgs&) { return 0; }

}  // namespace greta::gpu::GRETA_GPU_TARGET
