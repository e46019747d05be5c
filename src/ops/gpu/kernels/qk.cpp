// Scores: the 16-lane dot product of a query head with every key of its row's sequence, then one product with the scale; where
// there is a cap, cap * tanh(score / cap). Keys before the window are -infinity. As ops/reference/attention.cpp.
//
// Query heads that share a KV head are numbered row * group + head of the group. A block computes a tile of them by a tile of
// keys. Few rows: the heads of one row. Many rows: heads of several rows, which normally are of one sequence; where they are
// not, the tile is computed once for each run of rows of one sequence.
//
// Route `invariant` is qk_invariant.cpp where K has 16 bits, and this for F32.
#include "ops/gpu/kernels/lane_tile.h"
#include "ops/gpu/kernels/qk_table.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

using FewTile = LaneTile<8, 4, 1, 8>;   // 8 queries by 32 keys
using ManyTile = LaneTile<8, 8, 4, 4>;  // 32 by 32
constexpr std::int32_t kFewRows = 16;

/// Dot products of queries [begin, end) of the table, all of one sequence, into `dots`: [kRowsA][kRowsB + 1].
template <class Tile>
GRETA_DEVICE void dot_run(const QkArgs& args, const QueryTable<Tile::kRowsA>& table, int begin, int end, int kv_head, int key,
                          bool aligned, float* staged, float* dots) {
  float* queries = staged;
  float* keys = staged + Tile::kRowsA * kStagedStride;
  const std::int64_t offset = std::int64_t{kv_head} * args.head_dim * (args.keys.dtype == DType::f32 ? 4 : 2);
  const std::byte* slots = args.keys.base + table.sequence[begin] * args.keys.sequence_stride + offset;
  std::int32_t last = 0;  // keys from here on no query of the run has
  for (int i = begin; i < end; ++i) last = table.keys[i] > last ? table.keys[i] : last;
  float sum[Tile::kA * Tile::kB];
  GRETA_UNROLL
  for (int i = 0; i < Tile::kA * Tile::kB; ++i) sum[i] = 0.0f;
  for (int d = 0; d < args.head_dim; d += kDepth) {
    stage_rows<Tile::kRowsA, Tile::kThreads>(queries, kStagedStride, DType::f32, aligned, d, args.head_dim, [&](int i) {
      return i >= begin && i < end ? table.query[i] : static_cast<const std::byte*>(nullptr);
    });
    stage_rows<Tile::kRowsB, Tile::kThreads>(keys, kStagedStride, args.keys.dtype, aligned, d, args.head_dim, [&](int i) {
      return key + i < last ? slots + (key + i) * args.keys.slot_stride : nullptr;
    });
    block_barrier();
    const int depth = args.head_dim - d < kDepth ? (args.head_dim - d + kLanes - 1) / kLanes * kLanes : kDepth;
    Tile::fuse(queries, kStagedStride, keys, kStagedStride, depth, sum);
    block_barrier();  // what is staged may be overwritten
  }
  scatter_sums(sum, Tile::lane());
  GRETA_UNROLL
  for (int n = 0; n < Tile::kOwn; ++n) {
    dots[Tile::row_a(n) * (Tile::kRowsB + 1) + Tile::row_b(n)] = sum[n];
  }
  block_barrier();
}

/// Block (tile of keys, tile of queries, KV head). `tiles_a_row`: tiles of the heads of one row; 0: tiles span rows.
template <class Tile, KernelFault kFault>
GRETA_KERNEL_OF(Tile::kThreads, 1)
qk_kernel(QkArgs args, int tiles_a_row, bool aligned) {
  auto& table = *reinterpret_cast<QueryTable<Tile::kRowsA>*>(shared_memory());
  float* staged = reinterpret_cast<float*>(shared_memory() + (sizeof table + 15) / 16 * 16);
  const int group = args.n_heads / args.n_kv_heads;
  const int key = block_x() * Tile::kRowsB;
  std::int64_t first = std::int64_t{block_y()} * Tile::kRowsA;
  std::int64_t end = std::int64_t{args.rows.n} * group;
  if (tiles_a_row > 0) {
    const std::int64_t r = block_y() / tiles_a_row;
    first = r * group + block_y() % tiles_a_row * Tile::kRowsA;
    end = (r + 1) * group;
  }
  fill_table<kFault>(args, block_z(), first, end, key, Tile::kRowsB, table);
  if (table.written == 0) return;
  const int count = end - first < Tile::kRowsA ? static_cast<int>(end - first) : Tile::kRowsA;
  if (table.computed == 0) return write_run<Tile::kRowsB>(args, table, 0, count, key, staged, Tile::kRowsB + 1);
  for (int begin = 0; begin < count;) {
    int stop = table.mixed != 0 ? begin + 1 : count;
    while (stop < count && table.sequence[stop] == table.sequence[begin]) ++stop;
    dot_run<Tile>(args, table, begin, stop, block_z(), key, aligned, staged, staged);
    write_run<Tile::kRowsB>(args, table, begin, stop, key, staged, Tile::kRowsB + 1);
    if (stop < count) block_barrier();  // the products are read before the next run is staged
    begin = stop;
  }
}

template <class Tile, KernelFault kFault>
void run(Stream stream, const QkArgs& args, bool one_row_a_tile) {
  const int group = args.n_heads / args.n_kv_heads;
  const int tiles_a_row = one_row_a_tile ? (group + Tile::kRowsA - 1) / Tile::kRowsA : 0;
  const std::int64_t tiles = one_row_a_tile ? std::int64_t{args.rows.n} * tiles_a_row
                                            : (std::int64_t{args.rows.n} * group + Tile::kRowsA - 1) / Tile::kRowsA;
  const std::size_t staged = (Tile::kRowsA + Tile::kRowsB) * kStagedStride * sizeof(float);
  const std::int64_t q_head = std::int64_t{args.head_dim} * 4;
  const std::int64_t k_head = args.head_dim * number_bytes(args.keys.dtype);
  const bool aligned = all_aligned(args.q.data, args.keys.base) &&
                       (args.q.stride | q_head | k_head | args.keys.sequence_stride | args.keys.slot_stride) % 16 == 0;
  launch({"qk", stream, (args.rows.most_keys + Tile::kRowsB - 1) / Tile::kRowsB, tiles, args.n_kv_heads, Tile::kThreads,
          (sizeof(QueryTable<Tile::kRowsA>) + 15) / 16 * 16 + staged},
         qk_kernel<Tile, kFault>, args, tiles_a_row, aligned);
}

template <KernelFault kFault>
void run(Stream stream, const QkArgs& args) {
  if (args.rows.n <= kFewRows) return run<FewTile, kFault>(stream, args, true);
  run<ManyTile, kFault>(stream, args, false);
}

}  // namespace

void qk(Stream stream, const QkArgs& args) {
  if (args.rows.n < 1) return;
  if (args.route == RouteId::invariant && args.keys.dtype != DType::f32) return qk_invariant(stream, args);
  if (args.fault == KernelFault::narrow_position) return run<KernelFault::narrow_position>(stream, args);
  run<KernelFault::none>(stream, args);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
