// The token that a random number draws: ops/sampling.h's arithmetic without sorting the vocabulary.
//
// Tokens stand in one order, the largest logit first, then by id. "The first token up to which the weights' sum is above a
// target" is found digit by digit of a token's place in that order: bins hold sums of whole numbers, which are the same however
// they are added. The first digit is the distance to the largest logit in eighths of a temperature; the tokens of one such
// bucket are few, and the other digits are of 11 bits of (logit, id).
#include "ops/gpu/kernels/largest.h"
#include "ops/gpu/kernels/table.h"
#include "ops/sampling.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

constexpr int kThreads = 256;
constexpr int kChooseThreads = 512;
constexpr int kMostBlocks = 64;
static_assert(kMostBlocks <= kThreads && kMostBlocks <= kChooseThreads);
constexpr int kPerTemperature = 8;
constexpr int kBuckets = static_cast<int>(kSampledReach) * kPerTemperature;
/// Of NaN and of tokens without weight.
constexpr std::uint8_t kNoBucket = 255;
static_assert(kBuckets <= kNoBucket);
constexpr int kBins = 2048;
constexpr int kBinsOfThread = kBins / kChooseThreads;

/// Sums over tokens.
struct Amount {
  std::uint64_t count = 0, weight = 0;
};
GRETA_DEVICE Amount operator+(const Amount& a, const Amount& b) { return {a.count + b.count, a.weight + b.weight}; }
GRETA_DEVICE void add_token(Amount& to, std::uint64_t weight) {
  atomic_add(&to.count, 1);
  atomic_add(&to.weight, weight);
}

/// Where things are in the scratch memory.
struct Scratch {
  Amount* buckets;       // [kBuckets]
  Largest* parts;        // [kMostBlocks]
  std::uint64_t* list;   // [vocab] places in order
  std::uint8_t* bucket;  // [vocab]
};
GRETA_HOST_DEVICE Scratch scratch_of(std::byte* memory, std::int64_t vocab) {
  Scratch scratch;
  scratch.buckets = reinterpret_cast<Amount*>(memory);
  scratch.parts = reinterpret_cast<Largest*>(scratch.buckets + kBuckets);
  scratch.list = reinterpret_cast<std::uint64_t*>(scratch.parts + kMostBlocks);
  scratch.bucket = reinterpret_cast<std::uint8_t*>(scratch.list + vocab);
  return scratch;
}

/// A token's place: smaller is earlier in the order.
GRETA_DEVICE std::uint64_t place_of(float logit, std::int64_t id) {
  const std::uint32_t bits = logit == 0 ? 0 : bits_of(logit);
  const std::uint32_t descending = (bits >> 31) != 0 ? bits : ~(bits | 0x80000000u);
  return static_cast<std::uint64_t>(descending) << 32 | static_cast<std::uint64_t>(id);
}
GRETA_DEVICE float logit_at(std::uint64_t place) {
  const auto descending = static_cast<std::uint32_t>(place >> 32);
  return float_of((descending >> 31) != 0 ? descending : ~descending & 0x7fffffffu);
}
GRETA_DEVICE double distance_of(const SampleArgs& args, float logit, float largest) {
  return sampled_distance(static_cast<double>(logit), static_cast<double>(largest), args.temperature);
}

/// Of the first kernel's parts. Every thread of the block calls it and gets the answer.
GRETA_DEVICE Largest join_parts(const Largest* parts, int n, Largest (&shared)[kLargestParts]) {
  const Largest best = largest_of_block(thread_id() < n ? parts[thread_id()] : Largest{}, shared);
  if (thread_id() == 0) shared[0] = best;
  block_barrier();
  return shared[0];
}

GRETA_KERNEL_OF(kThreads, 1) largest_kernel(SampleArgs args) {
  auto& parts = *reinterpret_cast<Largest(*)[kLargestParts]>(shared_memory());
  const Scratch scratch = scratch_of(args.scratch, args.logits.n_cols);
  const auto* logits = reinterpret_cast<const float*>(args.logits.data);
  const int first = block_x() * kThreads + thread_id();
  const Largest best = largest_of_block(largest_of(logits, first, args.logits.n_cols, grid_x() * kThreads), parts);
  if (thread_id() == 0) scratch.parts[block_x()] = best;
  if (first < kBuckets) scratch.buckets[first] = {};
}

struct BucketsShared {
  Amount buckets[kBuckets];
  Largest parts[kLargestParts];
};

GRETA_KERNEL_OF(kThreads, 1) buckets_kernel(SampleArgs args) {
  auto& shared = *reinterpret_cast<BucketsShared*>(shared_memory());
  const Scratch scratch = scratch_of(args.scratch, args.logits.n_cols);
  const auto* logits = reinterpret_cast<const float*>(args.logits.data);
  for (int b = thread_id(); b < kBuckets; b += kThreads) shared.buckets[b] = {};
  const Largest largest = join_parts(scratch.parts, grid_x(), shared.parts);
  for (std::int64_t i = block_x() * kThreads + thread_id(); i < args.logits.n_cols; i += grid_x() * kThreads) {
    std::uint8_t bucket = kNoBucket;
    const double distance = distance_of(args, logits[i], largest.value);
    if (distance < kSampledReach) {  // NaN of a NaN logit
      bucket = static_cast<std::uint8_t>(distance * kPerTemperature);
      add_token(shared.buckets[bucket], sampled_weight(distance));
    }
    scratch.bucket[i] = bucket;
  }
  block_barrier();
  for (int b = thread_id(); b < kBuckets; b += kThreads) {
    if (shared.buckets[b].count == 0) continue;
    atomic_add(&scratch.buckets[b].count, shared.buckets[b].count);
    atomic_add(&scratch.buckets[b].weight, shared.buckets[b].weight);
  }
}

struct ChooseShared {
  Amount bins[kBins];
  Amount of_waves[kChooseThreads / 32];
  Largest parts[kLargestParts];
  // Of the bin, then of the token, that was found.
  Amount before, here;
  std::int32_t bin;  // -1: none
  std::int32_t id;
  std::int32_t n_list;
};

/// What is looked for: the first token up to which the sum is above `target`.
struct Wanted {
  bool by_weight;
  std::uint64_t target;
  GRETA_DEVICE std::uint64_t of(const Amount& amount) const { return by_weight ? amount.weight : amount.count; }
};

/// The same as `before`, with that of earlier threads added.
GRETA_DEVICE Amount scan_block(Amount mine, ChooseShared& shared) {
  const int lane = lane_id();
  Amount sum = mine;
  for (int d = 1; d < kWave; d *= 2) {
    const int from = lane >= d ? lane - d : lane;
    const Amount other = {shuffle(sum.count, from), shuffle(sum.weight, from)};
    if (lane >= d) sum = sum + other;
  }
  if (lane == kWave - 1) shared.of_waves[wave_id()] = sum;
  block_barrier();
  for (int w = 0; w < wave_id(); ++w) sum = sum + shared.of_waves[w];
  return sum;
}

/// Finds the bin of the token, `before` being the sum of what comes before all bins: bin, before (what comes before it) and
/// here (what is in it) in shared memory; bin -1 where no sum is above the target. Returns the sum with all bins.
GRETA_DEVICE Amount find_bin(const Wanted& wanted, Amount before, ChooseShared& shared) {
  Amount mine;
  for (int k = 0; k < kBinsOfThread; ++k) mine = mine + shared.bins[thread_id() * kBinsOfThread + k];
  if (thread_id() == 0) shared.bin = -1;
  const Amount with = scan_block(mine, shared) + before;
  Amount sum = {with.count - mine.count, with.weight - mine.weight};
  if (wanted.of(sum) <= wanted.target && wanted.of(with) > wanted.target) {
    for (int k = 0; k < kBinsOfThread; ++k) {
      const int bin = thread_id() * kBinsOfThread + k;
      const Amount next = sum + shared.bins[bin];
      if (wanted.of(next) > wanted.target) {
        shared.bin = bin;
        shared.before = sum;
        shared.here = shared.bins[bin];
        break;
      }
      sum = next;
    }
  }
  block_barrier();
  for (int w = 0; w < kChooseThreads / kWave; ++w) before = before + shared.of_waves[w];
  return before;
}

/// The bins are the buckets of all tokens.
GRETA_DEVICE Amount find_bucket(const Wanted& wanted, const Scratch& scratch, ChooseShared& shared) {
  for (int b = thread_id(); b < kBins; b += kChooseThreads) shared.bins[b] = b < kBuckets ? scratch.buckets[b] : Amount{};
  block_barrier();
  return find_bin(wanted, {}, shared);
}

/// Lists the places of the tokens in `bucket`, in whatever order.
GRETA_DEVICE void list_bucket(const SampleArgs& args, const Scratch& scratch, int bucket, ChooseShared& shared) {
  constexpr int kAtOnce = 8;
  const auto* logits = reinterpret_cast<const float*>(args.logits.data);
  if (thread_id() == 0) shared.n_list = 0;
  block_barrier();
  for (std::int64_t first = thread_id(); first < args.logits.n_cols; first += kAtOnce * kChooseThreads) {
    std::uint8_t found[kAtOnce];
    GRETA_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t i = first + k * kChooseThreads;
      found[k] = i < args.logits.n_cols ? scratch.bucket[i] : kNoBucket;
    }
    GRETA_UNROLL
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t i = first + k * kChooseThreads;
      if (found[k] == bucket) scratch.list[atomic_add(&shared.n_list, 1)] = place_of(logits[i], i);
    }
  }
  block_barrier();
}

/// The token after find_bucket has found its bucket: id, before and here (its own amount) in shared memory.
GRETA_DEVICE void find_token(const SampleArgs& args, const Scratch& scratch, const Wanted& wanted, float largest,
                             ChooseShared& shared) {
  list_bucket(args, scratch, shared.bin, shared);
  const auto weight_of = [&](std::uint64_t place) { return sampled_weight(distance_of(args, logit_at(place), largest)); };
  std::uint64_t prefix = 0;
  int shift = 64;
  while (shift > 0) {
    const int known = shift;  // bits from here up are known
    shift = shift > 11 ? shift - 11 : 0;
    const auto matches = [&](std::uint64_t place) { return known == 64 || (place ^ prefix) >> known == 0; };
    for (int b = thread_id(); b < kBins; b += kChooseThreads) shared.bins[b] = {};
    const Amount before = shared.before;
    block_barrier();
    for (std::int32_t i = thread_id(); i < shared.n_list; i += kChooseThreads) {
      const std::uint64_t place = scratch.list[i];
      if (matches(place)) add_token(shared.bins[place >> shift & (kBins - 1)], weight_of(place));
    }
    block_barrier();
    find_bin(wanted, before, shared);
    prefix |= static_cast<std::uint64_t>(shared.bin) << shift;
    if (shared.here.count == 1) break;
  }
  for (std::int32_t i = thread_id(); i < shared.n_list; i += kChooseThreads)
    if ((scratch.list[i] ^ prefix) >> shift == 0) shared.id = static_cast<std::int32_t>(scratch.list[i] & 0xffffffffu);
  block_barrier();
}

GRETA_KERNEL_OF(kChooseThreads, 1) choose_kernel(SampleArgs args, int n_parts) {
  auto& shared = *reinterpret_cast<ChooseShared*>(shared_memory());
  const Scratch scratch = scratch_of(args.scratch, args.logits.n_cols);
  const Largest largest = join_parts(scratch.parts, n_parts, shared.parts);
  if (largest.id < 0) {  // all are NaN
    if (thread_id() == 0) *args.id = -1;
    return;
  }
  const Wanted last = {false, args.top_k > 0 ? static_cast<std::uint64_t>(args.top_k - 1) : ~std::uint64_t{0}};
  std::uint64_t kept = find_bucket(last, scratch, shared).weight;  // of all, where fewer than top_k have a bucket
  if (shared.bin >= 0) {
    find_token(args, scratch, last, largest.value, shared);
    kept = shared.before.weight + shared.here.weight;
  }
  if (args.top_p < 1) {
    const Wanted nucleus = {true, nucleus_target(args.top_p, kept)};
    find_bucket(nucleus, scratch, shared);
    find_token(args, scratch, nucleus, largest.value, shared);
    kept = shared.before.weight + shared.here.weight;
  }
  const Wanted drawn = {true, drawn_target(*args.unit, kept)};
  find_bucket(drawn, scratch, shared);
  find_token(args, scratch, drawn, largest.value, shared);
  if (thread_id() == 0) *args.id = shared.id;
}

}  // namespace

std::size_t sample_scratch(std::int64_t vocab) {
  return kBuckets * sizeof(Amount) + kMostBlocks * sizeof(Largest) +
         static_cast<std::size_t>(vocab) * (sizeof(std::uint64_t) + 1);
}

void sample(Stream stream, const SampleArgs& args) {
  if (args.temperature == 0) return argmax(stream, {.logits = args.logits, .n_rows = 1, .ids = args.id});
  constexpr std::int64_t kOfBlock = 8 * kThreads;
  const std::int64_t blocks = (args.logits.n_cols + kOfBlock - 1) / kOfBlock;
  Launch at{.name = "sample", .stream = stream, .x = blocks < kMostBlocks ? blocks : kMostBlocks, .threads = kThreads};
  const auto n_parts = static_cast<int>(at.x);
  at.shared = kLargestParts * sizeof(Largest);
  launch(at, largest_kernel, args);
  at.shared = sizeof(BucketsShared);
  launch(at, buckets_kernel, args);
  at.x = 1;
  at.threads = kChooseThreads;
  at.shared = sizeof(ChooseShared);
  launch(at, choose_kernel, args, n_parts);
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
