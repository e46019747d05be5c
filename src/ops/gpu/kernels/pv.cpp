// Mixtures: out[d] = sum over keys of prob * value, in one chain of fused multiply-adds an element, keys in order; as
// ops/reference/attention.cpp. Keys before the window whose probability is 0 are passed over.
//
// Route `invariant` is pv_invariant.cpp where V has 16 bits; for F32 it is here, and cuts the keys at absolute positions into
// splits of kSplit: each is one such chain from zero, and the sums of the splits are added in their order, ((s0 + s1) + s2)
// ..., whatever the number of rows. For few rows the splits are computed side by side, their sums kept in scratch
// [query][split][head_dim] and then added; for more, one after the other. A split of which a query has no key counts as -0, to
// which adding changes nothing.
//
// A block computes a tile of query heads that share a KV head, numbered row * group + head of the group, by a tile of a head's
// elements, and goes through the keys a tile at a time: while one is computed, the next is on its way to registers.
#include "ops/gpu/kernels/numbers.h"
#include "ops/gpu/kernels/pv_tile.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

using FewTile = MixTile<2, 4, 1, 32, 64>;   // 8 queries of one row by 32 elements
using ManyTile = MixTile<8, 8, 4, 16, 32>;  // 64 queries by 64 elements
constexpr std::int32_t kFewRows = 64;       // up to here a tile has the heads of one row

/// Block (tile of elements, tile of queries, KV head by split).
template <class Tile, KernelFault kFault, bool kSplits>
GRETA_KERNEL_OF(Tile::kThreads, 2)
pv_kernel(PvArgs args, MixShare share, bool aligned) {
  auto& table = *reinterpret_cast<MixTable<Tile::kQueries>*>(shared_memory());
  float* staged = reinterpret_cast<float*>(shared_memory() + MixTable<Tile::kQueries>::kBytes);
  const MixBlock block(args, share, Tile::kQueries, block_y());
  fill_table(args, block.kv_head, block.first, block.end, block.range.end, table);
  if (table.most <= block.range.begin) return;
  const int count = block.end - block.first < Tile::kQueries ? static_cast<int>(block.end - block.first) : Tile::kQueries;
  for (int begin = 0; begin < count;) {
    int stop = table.mixed != 0 ? begin + 1 : count;
    while (stop < count && table.sequence[stop] == table.sequence[begin]) ++stop;
    float sum[Tile::kEach];
    mix_run<Tile, kFault, kSplits>(args, table, {begin, stop}, block.kv_head, block.range, aligned, staged, sum);
    GRETA_UNROLL
    for (int i = 0; i < Tile::kA; ++i) {
      const int q = Tile::query(i);
      if (q < begin || q >= stop) continue;
      float* out = block.out(args, share, q);
      GRETA_UNROLL
      for (int d = 0; d < Tile::kD; ++d) {
        if (Tile::element(d) < args.head_dim) out[Tile::element(d)] = sum[i * Tile::kD + d];
      }
    }
    begin = stop;
  }
}

/// Adds the sums of the splits, in order. A thread an element of a row.
template <KernelFault kFault>
GRETA_KERNEL merge_kernel(PvArgs args, int n_splits, const float* partial, int blocks_a_row) {
  constexpr int kAhead = 16;  // loaded before they are added
  const std::int64_t r = block_x() / blocks_a_row;
  const int element = block_x() % blocks_a_row * block_threads() + thread_id();
  if (element >= args.n_heads * args.head_dim) return;
  const int head = element / args.head_dim;
  const int stride = args.head_dim + (kFault == KernelFault::merge_stride ? 1 : 0);
  const float* from = partial + (r * args.n_heads + head) * n_splits * args.head_dim + element % args.head_dim;
  const int n = args.rows.position[r] / kSplit + 1;
  float sum = -0.0f;  // as if it were not there; parts that the row does not have are read too, so as not to wait for n
  for (int begin = 0; begin < n; begin += kAhead) {
    float part[kAhead];
    GRETA_UNROLL
    for (int s = 0; s < kAhead; ++s) part[s] = begin + s < n_splits ? from[std::int64_t{begin + s} * stride] : -0.0f;
    GRETA_UNROLL
    for (int s = 0; s < kAhead; ++s) sum = begin + s < n ? sum + part[s] : sum;
  }
  reinterpret_cast<float*>(args.out.data + r * args.out.stride)[element] = sum;
}

template <class Tile, KernelFault kFault>
void run(Stream stream, const PvArgs& args, bool one_row_a_tile) {
  const MixShare share(args, Tile::kQueries, one_row_a_tile);
  const std::int64_t head_bytes = args.head_dim * number_bytes(args.values.dtype);
  const bool aligned = args.head_dim % 8 == 0 && all_aligned(args.values.base) &&
                       (head_bytes | args.values.sequence_stride | args.values.slot_stride) % 16 == 0;
  const bool splits_in_turn = has_splits(args) && share.partial == nullptr;
  launch({"pv", stream, (args.head_dim + Tile::kElements - 1) / Tile::kElements, share.tiles(args, Tile::kQueries),
          share.depth(args), Tile::kThreads, MixTable<Tile::kQueries>::kBytes + Tile::kStaged * sizeof(float)},
         splits_in_turn ? pv_kernel<Tile, kFault, true> : pv_kernel<Tile, kFault, false>, args, share, aligned);
  merge_splits(stream, args);
}

template <KernelFault kFault>
void run(Stream stream, const PvArgs& args) {
  if (args.rows.n <= kFewRows) return run<FewTile, kFault>(stream, args, true);
  run<ManyTile, kFault>(stream, args, false);
}

}  // namespace

void merge_splits(Stream stream, const PvArgs& args) {
  if (!splits_side_by_side(args)) return;
  constexpr int kMergeThreads = 128;
  const int blocks = (args.n_heads * args.head_dim + kMergeThreads - 1) / kMergeThreads;
  const auto merge =
      args.fault == KernelFault::merge_stride ? merge_kernel<KernelFault::merge_stride> : merge_kernel<KernelFault::none>;
  launch({"pv", stream, std::int64_t{args.rows.n} * blocks, 1, 1, kMergeThreads}, merge, args,
         static_cast<int>(count_splits(args)), reinterpret_cast<const float*>(args.scratch), blocks);
}

std::size_t pv_scratch(const PvArgs& args) {
  if (!splits_side_by_side(args)) return 0;
  const std::int64_t queries = std::int64_t{args.rows.n} * args.n_heads;
  // One float more a split: where the fault reads.
  return static_cast<std::size_t>((queries * args.head_dim + 1) * count_splits(args)) * sizeof(float);
}

void pv(Stream stream, const PvArgs& args) {
  if (args.rows.n < 1) return;
  if (args.route == RouteId::invariant && args.values.dtype != DType::f32) return pv_invariant(stream, args);
  if (args.fault == KernelFault::f16_accumulation) return run<KernelFault::f16_accumulation>(stream, args);
  run<KernelFault::none>(stream, args);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
