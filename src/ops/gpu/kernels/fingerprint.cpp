// Fingerprints of rows: hash, statistics and sketch, the bits of trace/row_scan.cpp and trace/fingerprint.cpp.
//
// A chain of additions waits for its last one, a hash for nothing. Of few rows the longest sets the time, so a block takes one
// and nothing stands between two additions of its chains; of many rows the machine is full, and what counts is how few
// instructions a row takes.
#include "ops/gpu/kernels/print_chains.h"
#include "ops/gpu/kernels/print_hash.h"
#include "ops/gpu/kernels/print_sketch.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

/// From this many jobs on there are many.
constexpr std::int64_t kManyJobs = 1536;

GRETA_DEVICE std::uint32_t length(const PrintJob& job) { return static_cast<std::uint32_t>(job.count); }

// Few rows. A block's waves have roles: most bring the row tile by tile, hash it and leave it as float64 in shared memory; some
// have a bucket a thread; one has the chains, one of the 24 sums a thread.

constexpr int kChainThreads = kWave, kBringers = 256;
constexpr int kFewThreads = kChainThreads + kSketchWidth + kBringers;
static_assert((kFewThreads / kWave + 3) / 4 == (kChainThreads + kSketchWidth) / kWave);  // every fourth wave brings nothing
static_assert(kBringers % kWave == 0 && kSketchWidth % kWave == 0 && 3 * kPrintLanes <= kWave);
constexpr int kShare = static_cast<int>(kSketchTile) / kBringers;  // elements of a tile that a thread brings

struct FewShared {
  double tiles[2][kSketchTile + 2];  // one is filled while the other is added; zeros behind
  Found<double> found[kBringers / kJoined];
};

/// The next tile of a row on its way, and what its hash has found so far.
template <class Format>
class Bringer {
 public:
  GRETA_DEVICE explicit Bringer(std::uint32_t thread) : finder_(thread, kBringers), at_(thread) {}
  GRETA_DEVICE void read(const PrintJob& job) {
    GRETA_UNROLL
    for (int k = 0; k < kShare; ++k) {
      const std::uint32_t i = at_ + static_cast<std::uint32_t>(k * kBringers);
      next_[k] = i < length(job) ? Format::bits(job.row, i) : 0;
    }
  }
  /// Leaves the tile that was read last, and reads the next one.
  GRETA_DEVICE void bring(const PrintJob& job, double* tile) {
    typename Format::Word now[kShare];
    GRETA_UNROLL
    for (int k = 0; k < kShare; ++k) now[k] = next_[k];
    const std::uint32_t begin = at_;
    at_ += kSketchTile;
    read(job);
    GRETA_UNROLL
    for (int k = 0; k < kShare; ++k) tile[begin % kBringers + k * kBringers] = print_value<Format>(now[k]);
    GRETA_UNROLL
    for (int k = 0; k < kShare; ++k) {
      const std::uint32_t i = begin + static_cast<std::uint32_t>(k * kBringers);
      if (i < length(job)) finder_.add(now[k], i);
    }
  }
  GRETA_DEVICE Found<double> found() const { return finder_.found(); }

 private:
  Finder<Format> finder_;
  std::uint32_t at_;
  typename Format::Word next_[kShare];
};

/// The block's row; every thread of it calls this.
template <class Format>
GRETA_DEVICE void print_row(const FingerprintArgs& args, const PrintJob& job, RowSums& out) {
  auto& shared = *reinterpret_cast<FewShared*>(shared_memory());
  // Waves 0, 4, 8 ... share a part of the multiprocessor, which is left to the chains: the buckets' waves have little to do.
  const int wave = wave_id(), quarter = wave / 4;
  const bool brings = wave % 4 != 0, sums = wave == 0, sketches = !brings && !sums && job.sketch >= 0;
  const int bucket_thread = (quarter - 1) * kWave + lane_id();
  const int bringer_thread = brings ? (wave - 1 - quarter) * kWave + lane_id() : -1;
  const int lane = thread_id() % kPrintLanes, which = thread_id() / kPrintLanes;  // of the chains
  Bringer<Format> bringer(brings ? static_cast<std::uint32_t>(bringer_thread) : 0u);
  Bucket bucket;
  OneSum<Format> sum(which <= static_cast<int>(SumOf::magnitudes) ? static_cast<SumOf>(which) : SumOf::values);
  if (brings) bringer.read(job);
  if (sketches && job.count > 0) bucket.begin(args, length(job), bucket_thread);
  if (thread_id() == 0) shared.tiles[0][kSketchTile] = shared.tiles[1][kSketchTile] = 0;

  int turn = 0;
  for (std::int64_t base = 0; base < job.count; base += kSketchTile, turn ^= 1) {
    double* const tile = shared.tiles[turn];
    if (brings) bringer.bring(job, tile);
    block_barrier();  // the tile is complete, and the one before is done with
    const std::int64_t left = job.count - base;
    if (sums) add_tile(tile, left < kSketchTile ? static_cast<int>(left) : static_cast<int>(kSketchTile), lane, sum);
    if (sketches) bucket.add_tile([&](std::uint32_t i) { return tile[i]; });
  }

  if (sums) {
    const double total = lane_tree(sum.total());
    if (thread_id() == static_cast<int>(SumOf::values) * kPrintLanes) out.sum = total;
    if (thread_id() == static_cast<int>(SumOf::squares) * kPrintLanes) out.squares = total;
    if (thread_id() == static_cast<int>(SumOf::magnitudes) * kPrintLanes) out.abs_sum = total;
  } else if (brings) {
    Found<double> found = bringer.found();
    join_threads(found);
    if (bringer_thread % kJoined == 0) shared.found[bringer_thread / kJoined] = found;
  } else if (sketches) {
    sketch_of(args, job, bucket_thread) = bucket.sum();
  }
  block_barrier();
  if (bringer_thread == 0) {
    Found<double> all = shared.found[0];
    for (int p = 1; p < kBringers / kJoined; ++p) join(shared.found[p], all);
    write_found(all, job.count, out);
  }
}

/// A block a row. The last rows, of which the logits are the longest, come first.
GRETA_KERNEL_OF(kFewThreads, 1) few_rows(FingerprintArgs args) {
  const std::int64_t at = args.n_jobs - 1 - block_x();
  const PrintJob job = args.jobs[at];
  with_format(job.dtype, [&](auto format) { print_row<decltype(format)>(args, job, args.sums[at]); });
}

// Many rows: 32 threads run the chains of 4 rows or hash one row, or with the others of their block one long row. What chains
// leave of a multiprocessor the hashes take; blocks write different members of a row's sums.

constexpr int kManyThreads = 128;
constexpr int kHashRows = kManyThreads / kJoined;
constexpr int kChainRows = kManyThreads / kPrintLanes;
constexpr int kHashBlocks = kChainRows / kHashRows;  // for each block of chains
constexpr std::int64_t kLongRow = 16384;             // elements

GRETA_DEVICE PrintJob job_at(const FingerprintArgs& args, std::int64_t i) {
  return i < args.n_jobs ? args.jobs[i] : PrintJob{};
}

GRETA_DEVICE void run_chains(const FingerprintArgs& args, std::int64_t at) {
  const PrintJob job = job_at(args, at);
  const int lane = thread_id() % kPrintLanes;
  double sum = 0, squares = 0, abs_sum = 0;
  with_format(job.dtype, [&](auto format) {
    AllSums<decltype(format)> sums;
    add_lane<decltype(format)>(job.row, length(job), static_cast<std::uint32_t>(lane), sums);
    sum = sums.sum;
    squares = sums.squares;
    abs_sum = sums.abs_sum;
  });
  sum = lane_tree(sum);
  squares = lane_tree(squares);
  abs_sum = lane_tree(abs_sum);
  if (lane != 0 || at >= args.n_jobs) return;
  args.sums[at].sum = sum;
  args.sums[at].squares = squares;
  args.sums[at].abs_sum = abs_sum;
}

/// What thread `first` of `stride` finds in a row.
GRETA_DEVICE Found<double> find(const PrintJob& job, int first, int stride) {
  Found<double> found;
  with_format(job.dtype, [&](auto format) {
    found = hash_row<decltype(format), 2>(job.row, length(job), static_cast<std::uint32_t>(first),
                                          static_cast<std::uint32_t>(stride));
  });
  return found;
}

/// One long row; every thread of the block calls it.
GRETA_DEVICE void hash_by_block(const PrintJob& job, RowSums& out) {
  auto* parts = reinterpret_cast<Found<double>*>(shared_memory());
  Found<double> found = find(job, thread_id(), kManyThreads);
  join_threads(found);
  if (thread_id() % kJoined == 0) parts[thread_id() / kJoined] = found;
  block_barrier();
  if (thread_id() == 0) {
    for (int p = 1; p < kManyThreads / kJoined; ++p) join(parts[p], found);
    write_found(found, job.count, out);
  }
  block_barrier();
}

GRETA_DEVICE void sketch_row(const FingerprintArgs& args, const PrintJob& job, int thread) {
  Bucket bucket;
  if (job.count > 0) bucket.begin(args, length(job), thread);
  with_format(job.dtype, [&](auto format) {
    using Format = decltype(format);
    for (std::uint32_t base = 0; base < length(job); base += kSketchTile) {
      const std::uint32_t left = length(job) - base, n = left < kSketchTile ? left : kSketchTile;
      bucket.add_tile([&](std::uint32_t i) { return i < n ? print_value<Format>(Format::bits(job.row, base + i)) : 0.0; });
    }
  });
  sketch_of(args, job, thread) = bucket.sum();
}

GRETA_KERNEL_OF(kManyThreads, 7) many_rows(FingerprintArgs args) {
  const int part = block_x() % (1 + kHashBlocks);
  const std::int64_t group = std::int64_t{block_x() / (1 + kHashBlocks)} * kChainRows;
  if (part == 0) return run_chains(args, group + thread_id() / kPrintLanes);

  const std::int64_t first = group + (part - 1) * kHashRows;
  for (int r = 0; r < kHashRows; ++r) {
    const PrintJob job = job_at(args, first + r);
    if (job.count > kLongRow) hash_by_block(job, args.sums[first + r]);
    if (job.sketch >= 0 && thread_id() < kSketchWidth) sketch_row(args, job, thread_id());
  }
  const std::int64_t at = first + thread_id() / kJoined;
  const PrintJob job = job_at(args, at);
  const bool mine = at < args.n_jobs && job.count <= kLongRow;
  Found<double> found;
  if (mine) found = find(job, thread_id() % kJoined, kJoined);
  join_threads(found);
  if (thread_id() % kJoined == 0 && mine) write_found(found, job.count, args.sums[at]);
}

}  // namespace

void fingerprint(Stream stream, const FingerprintArgs& args) {
  if (args.n_jobs == 0) return;
  if (args.n_jobs < kManyJobs)
    return launch(
        {.name = "fingerprint", .stream = stream, .x = args.n_jobs, .threads = kFewThreads, .shared = sizeof(FewShared)},
        few_rows, args);
  launch({.name = "fingerprint",
          .stream = stream,
          .x = (args.n_jobs + kChainRows - 1) / kChainRows * (1 + kHashBlocks),
          .threads = kManyThreads,
          .shared = kHashRows * sizeof(Found<double>)},
         many_rows, args);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
