// Who the queries of a block of scores are (qk.cpp, qk_invariant.cpp), and how scores leave it.
#pragma once

#include "ops/gpu/kernels/numbers.h"

namespace greta::gpu::GRETA_GPU_TARGET {

/// What a block knows of its queries, in shared memory.
template <int kQueries>
struct QueryTable {
  const std::byte* query[kQueries];
  float* out[kQueries];  // [keys] of the query head
  std::int32_t sequence[kQueries];
  std::int32_t keys[kQueries];            // position + 1; 0 where there is no query
  std::int32_t first[kQueries];           // first key seen
  std::int32_t seen[kQueries];            // keys seen: `keys`, unless the position went through 8 bits
  std::int32_t mixed, written, computed;  // of the tile: several sequences; a score to write; a score to compute
};

/// Queries first.. of the KV head, of which only those below `end` are the block's.
template <KernelFault kFault, int kQueries>
GRETA_DEVICE void fill_table(const QkArgs& args, int kv_head, std::int64_t first, std::int64_t end, int key, int n_keys,
                             QueryTable<kQueries>& table) {
  const int group = args.n_heads / args.n_kv_heads;
  const int i = thread_id();
  if (i == 0) table.mixed = table.written = table.computed = 0;
  if (i < kQueries) table.keys[i] = 0;
  block_barrier();
  if (i < kQueries && first + i < end) {
    const int at = static_cast<int>(first) + i;
    const std::int64_t r = at / group;
    const int head = kv_head * group + at % group;
    const std::int32_t keys = args.rows.position[r] + 1;
    std::int32_t seen = keys;
    if constexpr (kFault == KernelFault::narrow_position) seen = static_cast<std::uint8_t>(keys - 1) + 1;
    table.query[i] = args.q.data + r * args.q.stride + std::int64_t{head} * args.head_dim * 4;
    table.out[i] = args.scores + args.rows.score_offset[r] + std::int64_t{head} * keys;
    table.sequence[i] = args.rows.sequence[r];
    table.keys[i] = keys;
    table.seen[i] = seen;
    table.first[i] = args.window > 0 && seen > args.window ? seen - args.window : 0;
    if (table.sequence[i] != args.rows.sequence[static_cast<int>(first) / group]) table.mixed = 1;
    if (key < keys) table.written = 1;
    if (key < seen && key + n_keys > table.first[i]) table.computed = 1;
  }
  block_barrier();
}

/// A dot product's score.
GRETA_DEVICE float finish_score(const QkArgs& args, float dot) {
  const float score = dot * args.scale;
  return args.softcap > 0.0f ? args.softcap * lane_tanh(score / args.softcap) : score;
}

/// Scores of the kKeys columns from `key` of queries [begin, end); dots: [kQueries][stride]. A wave a query.
template <int kKeys, int kQueries>
GRETA_DEVICE void write_run(const QkArgs& args, const QueryTable<kQueries>& table, int begin, int end, int key,
                            const float* dots, int stride) {
  constexpr int kEach = (kKeys + kWave - 1) / kWave;
  GRETA_UNROLL_BY(2)
  for (int i = begin + wave_id(); i < end; i += block_threads() / kWave) {
    const int keys = table.keys[i] - key, first = table.first[i] - key, seen = table.seen[i] - key;
    float* out = table.out[i] + key;
    if (kKeys % kWave == 0 && first <= 0 && keys >= kKeys && seen >= kKeys && !(args.softcap > 0.0f)) {
      GRETA_UNROLL
      for (int k = 0; k < kEach; ++k) {
        const int j = lane_id() + k * kWave;
        out[j] = dots[i * stride + j] * args.scale;
      }
      continue;
    }
    GRETA_UNROLL
    for (int k = 0; k < kEach; ++k) {
      const int j = lane_id() + k * kWave;
      if (j >= kKeys || j >= keys) continue;
      out[j] = j >= first && j < seen ? finish_score(args, dots[i * stride + j]) : float_of(0xff800000u);
    }
  }
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
