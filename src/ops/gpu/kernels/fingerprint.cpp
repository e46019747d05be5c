// Fingerprints of rows: hash, statistics and sketch, the bits of trace/row_scan.cpp and trace/fingerprint.cpp.
//
// The hash and the counts are order-free. The statistics are 8 chains of dependent float64 additions a row and the sketch is
// 64, whose order is part of the format: no machine can shorten them, so the kernel hides everything else behind them. A block
// takes rows in tiles through shared memory; one wave runs the 8 chains of each row, 64 threads the buckets, the others hash.
#include <limits>

#include "ops/gpu/kernels/print_formats.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

// Roles of a block's threads, in this order; each has whole waves. The hashing threads are shared out among the rows.
constexpr int kChainThreads = kWave;
constexpr int kHashThreads = 128;
constexpr int kThreads = kChainThreads + kSketchWidth + kHashThreads;
/// Hashing threads that join what they found by shuffles.
constexpr int kJoined = 32;
template <int kRows>
inline constexpr int kHashThreadsOfRow = kHashThreads / kRows;

/// Zero words behind a row's tile: where a bucket's padding reads (a block of q8_f32 at most).
constexpr int kZeroWords = static_cast<int>(sizeof(BlockQ8F32) / 4);
/// Bytes from a row's tile to the next row's, which begins 8 banks on: the chains of 4 rows then read 32 banks.
constexpr int kTileBytes = (kSketchTile + 40) * 4;
static_assert(kZeroWords <= 40);

/// From this many jobs on, a block takes 4 rows at once: the machine is full anyway, and the chains of 4 rows cost one row's
/// instructions, as do the keys of the hash and the order of the sketch.
constexpr std::int64_t kManyJobs = 1536;

/// What a hashing thread knows of its row.
template <class Value>
struct Found {
  std::uint64_t lo = 0, hi = 0;
  Value min = std::numeric_limits<Value>::infinity(), max = -std::numeric_limits<Value>::infinity();
  std::int32_t nan = 0, inf = 0, zero = 0;
  /// Index of its first zero in the upper 31 bits, the sign of it in the lowest: it gives a minimum or maximum of 0 its sign.
  std::uint32_t first_zero = 0xffffffffu;
  /// First of the order in which lanes, then indices come.
  std::int32_t zero_lane = 0;
};

struct ChainSums {
  double sum = 0, squares = 0, abs_sum = 0;
};

/// Rows of one format that a block takes at once; count is 0 where a row is another block's or another format's.
template <int kRows>
struct Group {
  const std::byte* row[kRows];
  std::int64_t count[kRows];
  std::int64_t longest;
  bool mine[kRows];
  bool sketch;  // of any
};

/// Shared memory of a block.
template <int kRows>
struct Shared {
  std::byte tiles[kRows][kTileBytes];
  ChainSums chains[kRows][kPrintLanes];
  Found<double> found[kRows][kHashThreadsOfRow<kRows> / kJoined];
  Group<kRows> group;
};

/// Fills `group`; every thread of the block calls it.
template <class Format, int kRows>
GRETA_DEVICE void find_group(const FingerprintArgs& args, std::int64_t first, Group<kRows>& group) {
  if (thread_id() == 0) {
    group.longest = 0;
    group.sketch = false;
    for (int r = 0; r < kRows; ++r) {
      const PrintJob job = first + r < args.n_jobs ? args.jobs[first + r] : PrintJob{};
      group.mine[r] = first + r < args.n_jobs && job.dtype == Format::dtype;
      group.row[r] = job.row;
      group.count[r] = group.mine[r] ? job.count : 0;
      group.sketch = group.sketch || (group.mine[r] && job.sketch >= 0);
      if (group.count[r] > group.longest) group.longest = group.count[r];
    }
  }
  block_barrier();
}

/// Elements of the tile that begins at `base` in a row of `count`.
GRETA_DEVICE int elements_in_tile(std::int64_t count, std::int64_t base) {
  const std::int64_t left = count - base;
  return static_cast<int>(left < 0 ? 0 : left > kSketchTile ? kSketchTile : left);
}

/// Four bytes of a row of `bytes` bytes; zero past its end. Rows of 16-bit elements may begin at any even address.
GRETA_DEVICE std::uint32_t word_at(const std::byte* row, std::int64_t at, std::int64_t bytes) {
  if (at >= bytes) return 0;
  const bool whole = at + 4 <= bytes;
  if (whole && reinterpret_cast<std::uintptr_t>(row) % 4 == 0) return *reinterpret_cast<const std::uint32_t*>(row + at);
  const auto* halves = reinterpret_cast<const std::uint16_t*>(row + at);
  return halves[0] | (whole ? static_cast<std::uint32_t>(halves[1]) << 16 : 0u);
}

/// A thread's words of a row's next tile, on their way from device memory to shared memory: in registers where the tile is
/// whole and aligned. What remains of a row, and rows at odd halves of a word, are read when they are stored.
template <class Format>
struct Ahead {
  static constexpr int n = (Format::tile_words + kThreads - 1) / kThreads;
  std::uint32_t words[n] = {};
  bool whole = false;

  GRETA_DEVICE void load(const std::byte* row, std::int64_t count, std::int64_t base) {
    whole = count - base >= kSketchTile && reinterpret_cast<std::uintptr_t>(row) % 4 == 0;
    if (!whole) return;
    const auto* tile = reinterpret_cast<const std::uint32_t*>(row) + base / kSketchTile * Format::tile_words + thread_id();
    GRETA_UNROLL
    for (int k = 0; k < n; ++k)
      if ((k + 1) * kThreads <= Format::tile_words || thread_id() + k * kThreads < Format::tile_words)
        words[k] = tile[k * kThreads];
  }
  GRETA_DEVICE void store(const std::byte* row, std::int64_t count, std::int64_t base, std::byte* to) const {
    auto* tile = reinterpret_cast<std::uint32_t*>(to);
    if (whole) {
      GRETA_UNROLL
      for (int k = 0; k < n; ++k) {
        const int word = thread_id() + k * kThreads;
        if (word < Format::tile_words) tile[word] = words[k];
      }
      return;
    }
    const std::int64_t bytes = print_bytes<Format>(count);
    const std::int64_t begin = base / kSketchTile * Format::tile_words * 4;
    for (int word = thread_id(); word < Format::tile_words; word += kThreads)
      tile[word] = word_at(row, begin + word * 4, bytes);
  }
};

/// A lane's next elements, of `n` in the tile. Zeros past the end of the row change no sum. Elements are read one round before
/// they are added: additions then wait for little but each other.
template <class Format>
GRETA_DEVICE void run_chain(const std::byte* tile, int lane, int n, ChainSums& sums) {
  constexpr int kRound = 8, kStep = kRound * kPrintLanes;
  static_assert(kSketchTile % kStep == 0);
  typename Format::Word next[kRound];
  GRETA_UNROLL
  for (int k = 0; k < kRound; ++k) next[k] = Format::bits(tile, lane + k * kPrintLanes);
  GRETA_UNROLL_BY(1)
  for (int begin = 0; begin < n; begin += kStep) {
    double x[kRound];
    GRETA_UNROLL
    for (int k = 0; k < kRound; ++k) x[k] = print_value<Format>(next[k]);
    if (begin + kStep < n) {
      GRETA_UNROLL
      for (int k = 0; k < kRound; ++k) next[k] = Format::bits(tile, begin + kStep + lane + k * kPrintLanes);
    }
    GRETA_UNROLL
    for (int k = 0; k < kRound; ++k) {
      sums.sum += x[k];
      if constexpr (Format::exact_square)
        sums.squares = fma(x[k], x[k], sums.squares);
      else
        sums.squares += x[k] * x[k];
      sums.abs_sum += __builtin_fabs(x[k]);
    }
  }
}

/// A bucket's elements of the tile, of every row. Entries are read one round ahead.
template <class Format, int kRows>
GRETA_DEVICE void run_bucket(const FingerprintArgs& args, const Shared<kRows>& shared, std::int64_t tile, int bucket,
                             double (&sums)[kRows]) {
  constexpr int kRound = kRows == 1 ? 4 : 2;  // rows are independent as well
  const std::uint32_t begin = args.sketch_begin[tile], end = args.sketch_begin[tile + 1];
  const std::uint32_t* order = args.sketch_order + static_cast<std::size_t>(begin) * kSketchWidth + bucket;
  std::uint32_t next[kRound];
  GRETA_UNROLL
  for (int k = 0; k < kRound; ++k) next[k] = order[k * kSketchWidth];
  GRETA_UNROLL_BY(1)
  for (std::uint32_t left = end - begin; left > 0; left -= kRound) {
    std::uint32_t entry[kRound];
    GRETA_UNROLL
    for (int k = 0; k < kRound; ++k) entry[k] = next[k];
    order += kRound * kSketchWidth;
    if (left > kRound) {
      GRETA_UNROLL
      for (int k = 0; k < kRound; ++k) next[k] = order[k * kSketchWidth];
    }
    GRETA_UNROLL
    for (int k = 0; k < kRound; ++k) {
      const int i = static_cast<int>(entry[k] & 0x7fffffffu);
      GRETA_UNROLL
      for (int r = 0; r < kRows; ++r) {
        const double x = print_value<Format>(Format::bits(shared.tiles[r], i));
        sums[r] += (entry[k] >> 31) != 0 ? -x : x;
      }
    }
  }
}

template <class Format>
GRETA_DEVICE void add_element(typename Format::Word raw, std::uint32_t index, std::uint64_t key_lo, std::uint64_t key_hi,
                              Found<typename Format::Value>& found) {
  const typename Format::Word magnitude = print_magnitude<Format>(raw);
  typename Format::Word bits = raw;
  if (magnitude >= Format::infinity) {
    if (magnitude > Format::infinity) {
      bits = Format::nan;
      ++found.nan;
    } else {
      ++found.inf;
    }
  } else {
    if (magnitude == 0) {
      if (found.zero++ == 0) found.first_zero = index << 1 | static_cast<std::uint32_t>(raw != 0);
      bits = 0;
    }
    const typename Format::Value x = Format::value(raw);
    found.min = x < found.min ? x : found.min;
    found.max = x > found.max ? x : found.max;
  }
  std::uint64_t lo = bits ^ key_lo, hi = bits ^ key_hi;
  print_mix_lo(lo);
  print_mix_hi(hi);
  found.lo += lo;
  found.hi += hi;
}

/// One of `stride` hashing threads of a row: elements first, first + stride, ... of the `n` in the tile that begins at `base`.
/// `stride` is a multiple of 8, so they all are of one lane. `at_once` of them are mixed side by side: a block that is alone
/// with a long row has no other waves to hide the latency of one mix.
template <class Format, int stride, int at_once>
GRETA_DEVICE void hash_tile(const std::byte* tile, std::int64_t base, int n, int first, Found<typename Format::Value>& found) {
  static_assert(stride % kPrintLanes == 0 && kSketchTile % kPrintLanes == 0);
  std::uint64_t key_lo = print_key_lo(static_cast<std::uint64_t>(base + first), Format::tag);
  std::uint64_t key_hi = print_key_hi(static_cast<std::uint64_t>(base + first), Format::tag);
  const auto next = [&](int i) {
    add_element<Format>(Format::bits(tile, i), static_cast<std::uint32_t>(base + i), key_lo, key_hi, found);
    key_lo += stride * kPrintStepLo;
    key_hi += stride * kPrintStepHi;
  };
  int i = first;
  GRETA_UNROLL_BY(1)
  for (; at_once > 1 && i + (at_once - 1) * stride < n; i += at_once * stride) {
    GRETA_UNROLL
    for (int k = 0; k < at_once; ++k) next(i + k * stride);
  }
  GRETA_UNROLL_BY(1)  // other waves hide the latency, and need the registers
  for (; i < n; i += stride) next(i);
}

template <class Value>
GRETA_DEVICE void join(const Found<Value>& other, Found<Value>& found) {
  found.lo += other.lo;
  found.hi += other.hi;
  if (other.min < found.min) found.min = other.min;
  if (other.max > found.max) found.max = other.max;
  const bool earlier =
      other.zero_lane < found.zero_lane || (other.zero_lane == found.zero_lane && other.first_zero < found.first_zero);
  if (other.zero > 0 && (found.zero == 0 || earlier)) {
    found.first_zero = other.first_zero;
    found.zero_lane = other.zero_lane;
  }
  found.nan += other.nan;
  found.inf += other.inf;
  found.zero += other.zero;
}

/// Over each 32 lanes of a wave.
template <class Value>
GRETA_DEVICE void join_lanes(Found<Value>& found) {
  for (int mask = kJoined / 2; mask > 0; mask /= 2) {
    Found<Value> other;
    other.lo = shuffle_xor(found.lo, mask);
    other.hi = shuffle_xor(found.hi, mask);
    other.min = shuffle_xor(found.min, mask);
    other.max = shuffle_xor(found.max, mask);
    other.nan = shuffle_xor(found.nan, mask);
    other.inf = shuffle_xor(found.inf, mask);
    other.zero = shuffle_xor(found.zero, mask);
    other.first_zero = shuffle_xor(found.first_zero, mask);
    other.zero_lane = shuffle_xor(found.zero_lane, mask);
    join(other, found);
  }
}

template <class Value>
GRETA_DEVICE Found<double> widened(const Found<Value>& found) {
  return {found.lo,
          found.hi,
          static_cast<double>(found.min),
          static_cast<double>(found.max),
          found.nan,
          found.inf,
          found.zero,
          found.first_zero,
          found.zero_lane};
}

template <class Get>
GRETA_DEVICE double lane_tree(const ChainSums (&v)[kPrintLanes], Get get) {
  return ((get(v[0]) + get(v[1])) + (get(v[2]) + get(v[3]))) + ((get(v[4]) + get(v[5])) + (get(v[6]) + get(v[7])));
}

/// One thread's: everything but the sketch of one row.
template <int n_parts>
GRETA_DEVICE void write_row(std::int64_t count, const ChainSums (&chains)[kPrintLanes], const Found<double> (&parts)[n_parts],
                            RowSums& out) {
  Found<double> found = parts[0];
  for (int p = 1; p < n_parts; ++p) join(parts[p], found);
  const double zero = (found.first_zero & 1) != 0 ? -0.0 : 0.0;
  out.hash.lo = found.lo;
  out.hash.hi = found.hi;
  out.min = found.min == 0 ? zero : found.min;
  out.max = found.max == 0 ? zero : found.max;
  out.sum = lane_tree(chains, [](const ChainSums& s) { return s.sum; });
  out.squares = lane_tree(chains, [](const ChainSums& s) { return s.squares; });
  out.abs_sum = lane_tree(chains, [](const ChainSums& s) { return s.abs_sum; });
  out.finite = count - found.nan - found.inf;
  out.nan = found.nan;
  out.inf = found.inf;
  out.zero = found.zero;
}

/// The rows of `Format` among jobs first .. first + kRows - 1; every thread of the block calls it.
template <class Format, int kRows>
GRETA_DEVICE void print_group(const FingerprintArgs& args, std::int64_t first) {
  auto& shared = *reinterpret_cast<Shared<kRows>*>(shared_memory());
  find_group<Format>(args, first, shared.group);
  const Group<kRows>& group = shared.group;
  // Roles go to whole waves. Waves of one number share a scheduler of the machine, so the chains of neighbours on it get
  // others.
  const int turn = block_x() / 128 % (kThreads / kWave) * kWave;
  const int role = (thread_id() + turn) % kThreads;
  const int bucket = role - kChainThreads, h = bucket - kSketchWidth;
  const int chain_row = role / kPrintLanes, lane = role % kPrintLanes;
  constexpr int kStride = kHashThreadsOfRow<kRows>;
  const int hash_row = h / kStride;

  ChainSums chain;
  double sketch[kRows] = {};
  Found<typename Format::Value> found;
  found.zero_lane = lane;
  for (int w = thread_id(); w < kRows * kZeroWords; w += kThreads)
    reinterpret_cast<std::uint32_t*>(shared.tiles[w / kZeroWords])[Format::tile_words + w % kZeroWords] = 0;
  Ahead<Format> ahead;
  if (kRows == 1) ahead.load(group.row[0], group.count[0], 0);
  for (std::int64_t base = 0; base < group.longest; base += kSketchTile) {
    block_barrier();
    if constexpr (kRows == 1) {
      ahead.store(group.row[0], group.count[0], base, shared.tiles[0]);
    } else {  // registers are better spent on more blocks: they hide one another's loads
      for (int r = 0; r < kRows; ++r) {
        ahead.load(group.row[r], group.count[r], base);
        ahead.store(group.row[r], group.count[r], base, shared.tiles[r]);
      }
    }
    block_barrier();
    if (kRows == 1 && base + kSketchTile < group.longest) ahead.load(group.row[0], group.count[0], base + kSketchTile);
    if (h >= 0) {
      hash_tile<Format, kStride, kRows == 1 ? 4 : 1>(shared.tiles[hash_row], base,
                                                     elements_in_tile(group.count[hash_row], base), h % kStride, found);
    } else if (bucket >= 0) {
      if (group.sketch && base < args.sketch_elements) run_bucket<Format>(args, shared, base / kSketchTile, bucket, sketch);
    } else if (chain_row < kRows) {
      run_chain<Format>(shared.tiles[chain_row], lane, elements_in_tile(group.longest, base), chain);
    }
  }

  if (h >= 0) {
    join_lanes(found);
    if (h % kJoined == 0) shared.found[hash_row][h % kStride / kJoined] = widened(found);
  } else if (bucket >= 0) {
    GRETA_UNROLL
    for (int r = 0; r < kRows; ++r)
      if (const std::int32_t slot = group.mine[r] ? args.jobs[first + r].sketch : -1; slot >= 0)
        args.sketches[static_cast<std::size_t>(slot) * kSketchWidth + static_cast<std::size_t>(bucket)] = sketch[r];
  } else if (chain_row < kRows) {
    shared.chains[chain_row][lane] = chain;
  }
  block_barrier();
  for (int r = 0; r < kRows; ++r)
    if (thread_id() == r * kWave && group.mine[r])
      write_row(group.count[r], shared.chains[r], shared.found[r], args.sums[first + r]);
  block_barrier();
}

template <int kRows>
GRETA_DEVICE bool any_of(const FingerprintArgs& args, std::int64_t first, DType dtype) {
  for (int r = 0; r < kRows; ++r)
    if (first + r < args.n_jobs && args.jobs[first + r].dtype == dtype) return true;
  return false;
}

template <int kRows>
GRETA_KERNEL_OF(kThreads, kRows == 1 ? 1 : 3)
fingerprint_kernel(FingerprintArgs args) {
  const std::int64_t first = std::int64_t{block_x()} * kRows;
  if (any_of<kRows>(args, first, DType::f32)) print_group<PrintF32, kRows>(args, first);
  if (any_of<kRows>(args, first, DType::f16)) print_group<PrintF16, kRows>(args, first);
  if (any_of<kRows>(args, first, DType::bf16)) print_group<PrintBF16, kRows>(args, first);
  if (any_of<kRows>(args, first, DType::q8_f32)) print_group<PrintQ8F32, kRows>(args, first);
}

template <int kRows>
void launch_rows(Stream stream, const FingerprintArgs& args) {
  const Launch at{.name = "fingerprint",
                  .stream = stream,
                  .x = (args.n_jobs + kRows - 1) / kRows,
                  .threads = kThreads,
                  .shared = sizeof(Shared<kRows>)};
  launch(at, fingerprint_kernel<kRows>, args);
}

}  // namespace

void fingerprint(Stream stream, const FingerprintArgs& args) {
  if (args.n_jobs == 0) return;
  if (args.n_jobs < kManyJobs)
    launch_rows<1>(stream, args);
  else
    launch_rows<4>(stream, args);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
