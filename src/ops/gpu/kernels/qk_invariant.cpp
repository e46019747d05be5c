// Scores on matrix cores, the same bits for every number of rows: K as it lies in the cache (f16 or bf16), q split into terms
// of that type (terms.h), products summed in F32 over head_dim in steps of 32, zeros beyond its end; then the scale and the cap
// as in qk.cpp. Keys are the tile's rows, query heads its tokens, so no score depends on who else is in the tile. A query head
// with a number that cannot be split is computed by one chain of fused multiply-adds a key.
//
// Few rows: a wave computes 16 keys by the heads of one row, from device memory into registers, and waits for nobody. Many
// rows: a block computes 64 queries by 128 keys, both in shared memory.
#include "ops/gpu/kernels/matmul_chunks.h"
#include "ops/gpu/kernels/qk_table.h"
#include "ops/gpu/kernels/table.h"
#include "ops/gpu/kernels/terms.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr std::int32_t kFewRows = 32;
constexpr int kFewThreads = 128;

/// Queries from 2^-18 on keep 22 bits; up to 4,094 they are split.
template <DType kType>
GRETA_DEVICE SplitScale query_scale() {
  return split_scale<kType>(16.0f);
}

/// Columns c .. c + 7 of a head of q, zeros beyond head_dim. Aligned: 16 bytes are read at a time.
template <bool kAligned>
GRETA_DEVICE void load_query(const std::byte* head, int c, int head_dim, float (&out)[8]) {
  if constexpr (kAligned) {
    GRETA_UNROLL
    for (int k = 0; k < 8; ++k) out[k] = 0.0f;
    if (c < head_dim) load_eight(DType::f32, head + c * 4, out);
  } else {
    GRETA_UNROLL
    for (int k = 0; k < 8; ++k) out[k] = c + k < head_dim ? reinterpret_cast<const float*>(head)[c + k] : 0.0f;
  }
}

/// Eight numbers as terms. False where one of them cannot be split.
template <DType kType>
GRETA_DEVICE bool split_eight(const float (&x)[8], TileB (&term)[kTerms<kType>]) {
  bool can = true;
  GRETA_UNROLL
  for (int k = 0; k < 8; k += 2) {
    can = can && can_be_split(x[k], query_scale<kType>()) && can_be_split(x[k + 1], query_scale<kType>());
    std::uint32_t word[kTerms<kType>];
    split_two<kType>(x[k], x[k + 1], query_scale<kType>(), word);
    GRETA_UNROLL
    for (int t = 0; t < kTerms<kType>; ++t) term[t].piece.word[k / 2] = word[t];
  }
  return can;
}

/// The dot product of a query head that cannot be split.
template <DType kType>
GRETA_DEVICE float chain_of(const std::byte* query, const std::byte* key, int head_dim) {
  float sum = 0.0f;
  for (int d = 0; d < head_dim; ++d) sum = fma(load_number(DType::f32, query, d), load_number(kType, key, d), sum);
  return sum;
}

GRETA_DEVICE const std::byte* head_keys(const QkArgs& args, std::int32_t sequence, int kv_head) {
  return args.keys.base + sequence * args.keys.sequence_stride + std::int64_t{kv_head} * args.head_dim * 2;
}

/// Block (kFewThreads / kWave tiles of keys, a row's tile of the heads of a group, KV head).
template <DType kType, bool kAligned, KernelFault kFault>
GRETA_KERNEL_OF(kFewThreads, 1)
qk_few(QkArgs args, int tiles_a_row) {
  constexpr int kSteps = 4;  // whose operands are loaded before the first is needed
  const int group = args.n_heads / args.n_kv_heads;
  const int r = block_y() / tiles_a_row, first_head = block_y() % tiles_a_row * kTileTokens;
  const int key = (block_x() * (kFewThreads / kWave) + wave_id()) * kTileRows;
  const int n = args.rows.position[r] + 1;
  const std::int32_t sequence = args.rows.sequence[r];
  const std::int64_t offset = args.rows.score_offset[r];
  if (key >= n) return;
  int seen = n;
  if constexpr (kFault == KernelFault::narrow_position) seen = static_cast<std::uint8_t>(n - 1) + 1;
  const int first = args.window > 0 && seen > args.window ? seen - args.window : 0;
  const std::byte* slots = head_keys(args, sequence, block_z());
  const auto query_of = [&](int token) {
    return args.q.data + r * args.q.stride + std::int64_t{block_z() * group + first_head + token} * args.head_dim * 4;
  };
  const bool has_query = first_head + tile_token() < group;
  const std::byte* query = query_of(tile_token());
  TermSums sum;
  int split = 1;  // whether the lane's query can be
  for (int begin = 0; begin < args.head_dim && key < seen && key + kTileRows > first; begin += kSteps * kTileDepth) {
    TileA a[kSteps];
    float q[kSteps][8];
    GRETA_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      const int column = begin + s * kTileDepth + tile_depth();
      GRETA_UNROLL
      for (int i = 0; i < kLaneRows; ++i) {
        const int j = key + tile_row(i);
        a[s].piece[i] = load_numbers<kAligned>(slots + j * args.keys.slot_stride, column, j < n ? args.head_dim : 0, true);
      }
      load_query<kAligned>(query, column, has_query ? args.head_dim : 0, q[s]);
    }
    GRETA_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      TileB b[kTerms<kType>];
      if (!split_eight<kType>(q[s], b)) split = 0;
      if (begin + s * kTileDepth < args.head_dim) multiply_terms<kType>(sum, a[s], b);
    }
  }
  // A query's columns are spread over lanes that differ in these bits.
  constexpr int kMask = kWave == 32 ? 1 : 16;
  split &= shuffle_xor(split, kMask);
  split &= shuffle_xor(split, 2 * kMask);
  GRETA_UNROLL
  for (int i = 0; i < kTileResults; ++i) {
    const int token = result_token(i), j = key + result_row(i);
    const int can = shuffle(split, kWave == 32 ? 4 * token : token);
    if (first_head + token >= group || j >= n) continue;
    float dot = term_sum<kType>(sum, i, query_scale<kType>());
    if (can == 0) dot = chain_of<kType>(query_of(token), slots + j * args.keys.slot_stride, args.head_dim);
    float* out = args.scores + offset + std::int64_t{block_z() * group + first_head + token} * n;
    out[j] = j >= first && j < seen ? finish_score(args, dot) : float_of(0xff800000u);
  }
}

/// A block of qk_many: its waves lie 2 along queries and the rest along keys.
template <DType kType>
struct ManyTile {
  static constexpr int kQueries = 64, kKeys = 128, kThreads = 256;
  static constexpr int kDepth = kWave == 32 ? 128 : 64;  // inputs at a time, as far as shared memory goes
  static constexpr int kPieces = kDepth / 8;             // of a row of a slab
  static constexpr int kAcross = 2, kDown = kThreads / kWave / kAcross;
  static constexpr int kM = kKeys / kDown / kTileRows, kN = kQueries / kAcross / kTileTokens;  // tiles of a wave
  static constexpr int kKeyShare = kKeys * kPieces / kThreads, kQueryShare = kQueries * kPieces / kThreads;
  static constexpr int kTermBytes = kQueries * kPieces * kPieceBytes;
  static constexpr int kKeyBytes = kKeys * kPieces * kPieceBytes;
  static constexpr int kDotStride = kKeys + 4;  // so that the lanes of a tile write to different banks
  static constexpr int kTableBytes = (static_cast<int>(sizeof(QueryTable<kQueries>)) + (kQueries + 1) * 4 + 15) / 16 * 16;
  static constexpr int kSlabBytes = kKeyBytes + kTerms<kType> * kTermBytes;
  static constexpr int kDotBytes = kQueries * kDotStride * 4;
  static constexpr std::size_t kShared =
      static_cast<std::size_t>(kTableBytes + (kSlabBytes > kDotBytes ? kSlabBytes : kDotBytes));

  static GRETA_DEVICE int first_key() { return wave_id() / kAcross * kM * kTileRows; }
  static GRETA_DEVICE int first_query() { return wave_id() % kAcross * kN * kTileTokens; }
};

/// Brings columns from `begin` of keys key_at .. of the `last` to shared memory, as they are.
template <DType kType, bool kAligned>
GRETA_DEVICE void stage_keys(const QkArgs& args, const std::byte* slots, int key_at, int last, int begin, std::byte* to) {
  using Tile = ManyTile<kType>;
  const int piece = thread_id() % Tile::kPieces, first = thread_id() / Tile::kPieces;
  Piece key[Tile::kKeyShare];
  GRETA_UNROLL
  for (int p = 0; p < Tile::kKeyShare; ++p) {
    const int j = key_at + first + p * (Tile::kThreads / Tile::kPieces);
    key[p] = load_numbers<kAligned>(slots + j * args.keys.slot_stride, begin + piece * 8, j < last ? args.head_dim : 0);
  }
  GRETA_UNROLL
  for (int p = 0; p < Tile::kKeyShare; ++p)
    *reinterpret_cast<Piece*>(to + staged_at(first + p * (Tile::kThreads / Tile::kPieces), piece, Tile::kPieces)) = key[p];
}
/// The same columns of the queries, as terms. `odd`: set where a query cannot be split.
template <DType kType, bool kAligned>
GRETA_DEVICE void stage_queries(const QkArgs& args, const QueryTable<ManyTile<kType>::kQueries>& table, int begin,
                                std::byte* to, std::int32_t* odd) {
  using Tile = ManyTile<kType>;
  const int piece = thread_id() % Tile::kPieces, first = thread_id() / Tile::kPieces;
  float query[Tile::kQueryShare][8];
  GRETA_UNROLL
  for (int p = 0; p < Tile::kQueryShare; ++p) {
    const int q = first + p * (Tile::kThreads / Tile::kPieces);
    load_query<kAligned>(table.query[q], begin + piece * 8, table.keys[q] > 0 ? args.head_dim : 0, query[p]);
  }
  GRETA_UNROLL
  for (int p = 0; p < Tile::kQueryShare; ++p) {
    const int q = first + p * (Tile::kThreads / Tile::kPieces);
    TileB term[kTerms<kType>];
    if (!split_eight<kType>(query[p], term)) odd[q] = odd[Tile::kQueries] = 1;
    GRETA_UNROLL
    for (int t = 0; t < kTerms<kType>; ++t)
      *reinterpret_cast<Piece*>(to + t * Tile::kTermBytes + staged_at(q, piece, Tile::kPieces)) = term[t].piece;
  }
}

/// sum += the slab's products.
template <DType kType>
GRETA_DEVICE void add_slab(const std::byte* keys, const std::byte* terms, int depth,
                           TermSums (&sum)[ManyTile<kType>::kM * ManyTile<kType>::kN]) {
  using Tile = ManyTile<kType>;
  for (int k = 0; k < depth; k += kTileDepth) {
    const int piece = (k + tile_depth()) / 8;
    TileA a[Tile::kM];
    GRETA_UNROLL
    for (int m = 0; m < Tile::kM; ++m) {
      GRETA_UNROLL
      for (int i = 0; i < kLaneRows; ++i)
        a[m].piece[i] = load_piece(keys + staged_at(Tile::first_key() + m * kTileRows + tile_row(i), piece, Tile::kPieces));
    }
    GRETA_UNROLL
    for (int n = 0; n < Tile::kN; ++n) {
      TileB b[kTerms<kType>];
      GRETA_UNROLL
      for (int t = 0; t < kTerms<kType>; ++t)
        b[t].piece = load_piece(terms + t * Tile::kTermBytes +
                                staged_at(Tile::first_query() + n * kTileTokens + tile_token(), piece, Tile::kPieces));
      GRETA_UNROLL
      for (int m = 0; m < Tile::kM; ++m) multiply_terms<kType>(sum[m * Tile::kN + n], a[m], b);
    }
  }
}

/// Dot products of queries [begin, end) of the table, all of one sequence, into `staged`: [kQueries][kDotStride].
template <DType kType, bool kAligned>
GRETA_DEVICE void dot_run(const QkArgs& args, const QueryTable<ManyTile<kType>::kQueries>& table, std::int32_t* odd, int begin,
                          int end, int kv_head, int key, std::byte* staged) {
  using Tile = ManyTile<kType>;
  std::byte* const terms = staged + Tile::kKeyBytes;
  const std::byte* slots = head_keys(args, table.sequence[begin], kv_head);
  const std::int32_t last = largest_between(table.keys, begin, end, 0);  // keys from here on no query of the run has
  TermSums sum[Tile::kM * Tile::kN];
  for (int d = 0; d < args.head_dim; d += Tile::kDepth) {
    if (d > 0) block_barrier();  // the slab before is done with
    stage_keys<kType, kAligned>(args, slots, key, last, d, staged);
    stage_queries<kType, kAligned>(args, table, d, terms, odd);
    block_barrier();
    add_slab<kType>(staged, terms, args.head_dim - d < Tile::kDepth ? args.head_dim - d : Tile::kDepth, sum);
  }
  block_barrier();
  float* dots = reinterpret_cast<float*>(staged);
  GRETA_UNROLL
  for (int n = 0; n < Tile::kM * Tile::kN; ++n) {
    GRETA_UNROLL
    for (int i = 0; i < kTileResults; ++i) {
      const int q = Tile::first_query() + n % Tile::kN * kTileTokens + result_token(i);
      const int j = Tile::first_key() + n / Tile::kN * kTileRows + result_row(i);
      dots[q * Tile::kDotStride + j] = term_sum<kType>(sum[n], i, query_scale<kType>());
    }
  }
  block_barrier();
  if (odd[Tile::kQueries] == 0) return;
  for (int p = thread_id(); p < (end - begin) * Tile::kKeys; p += Tile::kThreads) {
    const int q = begin + p / Tile::kKeys, j = p % Tile::kKeys;
    if (odd[q] != 0 && key + j < last)
      dots[q * Tile::kDotStride + j] =
          chain_of<kType>(table.query[q], slots + (key + j) * args.keys.slot_stride, args.head_dim);
  }
  block_barrier();
}

/// Block (tile of keys, tile of queries that may span rows, KV head).
template <DType kType, bool kAligned, KernelFault kFault>
GRETA_KERNEL_OF(ManyTile<kType>::kThreads, 2)
qk_many(QkArgs args) {
  using Tile = ManyTile<kType>;
  auto& table = *reinterpret_cast<QueryTable<Tile::kQueries>*>(shared_memory());
  auto* odd = reinterpret_cast<std::int32_t*>(shared_memory() +
                                              sizeof table);  // [kQueries]: queries that cannot be split; then whether any
  std::byte* staged = shared_memory() + Tile::kTableBytes;
  const int key = block_x() * Tile::kKeys;
  const std::int64_t first = std::int64_t{block_y()} * Tile::kQueries;
  const std::int64_t end = std::int64_t{args.rows.n} * (args.n_heads / args.n_kv_heads);
  if (thread_id() <= Tile::kQueries) odd[thread_id()] = 0;
  fill_table<kFault>(args, block_z(), first, end, key, Tile::kKeys, table);
  if (table.written == 0) return;
  const int count = end - first < Tile::kQueries ? static_cast<int>(end - first) : Tile::kQueries;
  const float* dots = reinterpret_cast<const float*>(staged);
  if (table.computed == 0) return write_run<Tile::kKeys>(args, table, 0, count, key, dots, Tile::kDotStride);
  for (int begin = 0; begin < count;) {
    int stop = table.mixed != 0 ? begin + 1 : count;
    while (stop < count && table.sequence[stop] == table.sequence[begin]) ++stop;
    dot_run<kType, kAligned>(args, table, odd, begin, stop, block_z(), key, staged);
    write_run<Tile::kKeys>(args, table, begin, stop, key, dots, Tile::kDotStride);
    if (stop < count) block_barrier();  // the products are read before the next run is staged
    begin = stop;
  }
}

template <DType kType, bool kAligned, KernelFault kFault>
void run(Stream stream, const QkArgs& args) {
  const int group = args.n_heads / args.n_kv_heads;
  if (args.rows.n <= kFewRows) {
    constexpr int kKeys = kFewThreads / kWave * kTileRows;
    const int tiles_a_row = (group + kTileTokens - 1) / kTileTokens;
    launch({"qk", stream, (args.rows.most_keys + kKeys - 1) / kKeys, std::int64_t{args.rows.n} * tiles_a_row, args.n_kv_heads,
            kFewThreads},
           qk_few<kType, kAligned, kFault>, args, tiles_a_row);
    return;
  }
  using Tile = ManyTile<kType>;
  launch({"qk", stream, (args.rows.most_keys + Tile::kKeys - 1) / Tile::kKeys,
          (std::int64_t{args.rows.n} * group + Tile::kQueries - 1) / Tile::kQueries, args.n_kv_heads, Tile::kThreads,
          Tile::kShared},
         qk_many<kType, kAligned, kFault>, args);
}

template <DType kType>
void run(Stream stream, const QkArgs& args) {
  const std::int64_t heads = std::int64_t{args.head_dim} * 2;  // bytes of K; of q twice as many
  const bool aligned = args.head_dim % 8 == 0 && all_aligned(args.q.data, args.keys.base) &&
                       (args.q.stride | heads | args.keys.sequence_stride | args.keys.slot_stride) % 16 == 0;
  if (args.fault == KernelFault::narrow_position) return run<kType, false, KernelFault::narrow_position>(stream, args);
  if (aligned) return run<kType, true, KernelFault::none>(stream, args);
  run<kType, false, KernelFault::none>(stream, args);
}

}  // namespace

void qk_invariant(Stream stream, const QkArgs& args) {
  if (args.keys.dtype == DType::f16) return run<DType::f16>(stream, args);
  run<DType::bf16>(stream, args);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
