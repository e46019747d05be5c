// The pool: every chunk once, exceptions come out, one floating-point state everywhere.
#include "ops/cpu/thread_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <set>
#include <thread>
#include <vector>

#include "core/error.h"
#include "ops/cpu/fp_state.h"

namespace greta::test {
namespace {

TEST(ThreadPool, CallsEveryChunkOnce) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (const std::int64_t n : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(n));
      pool.parallel_for(n, [&](std::int64_t chunk) { ++calls[static_cast<std::size_t>(chunk)]; });
      for (const auto& count : calls) EXPECT_EQ(count.load(), 1);
    }
  }
}

TEST(ThreadPool, RangesCoverEveryItemAndDoNotDependOnThreads) {
  std::vector<std::set<std::pair<std::int64_t, std::int64_t>>> seen;
  for (const int threads : {1, 4}) {
    ThreadPool pool(threads);
    std::mutex mutex;
    seen.emplace_back();
    pool.for_ranges(10, 4, [&](std::int64_t begin, std::int64_t end) {
      const std::lock_guard<std::mutex> lock(mutex);
      seen.back().insert({begin, end});
    });
  }
  EXPECT_EQ(seen[0], (std::set<std::pair<std::int64_t, std::int64_t>>{{0, 4}, {4, 8}, {8, 10}}));
  EXPECT_EQ(seen[0], seen[1]);
  ThreadPool pool(1);
  int calls = 0;
  pool.for_ranges(3, 0, [&](std::int64_t begin, std::int64_t end) {
    calls += static_cast<int>(end - begin);
  });  // a grain below 1 counts as 1
  EXPECT_EQ(calls, 3);
}

TEST(ThreadPool, ManyShortLoopsInARowAndAfterSleeping) {
  ThreadPool pool(3);
  std::atomic<std::int64_t> total{0};
  for (int round = 0; round < 20000; ++round) pool.parallel_for(4, [&](std::int64_t chunk) { total += chunk; });
  EXPECT_EQ(total.load(), 20000 * 6);
  for (int round = 0; round < 5; ++round) {
    std::this_thread::sleep_for(std::chrono::milliseconds(3));  // long enough for the workers to stop spinning
    pool.parallel_for(4, [&](std::int64_t chunk) { total += chunk; });
  }
  EXPECT_EQ(total.load(), 20005 * 6);
}

TEST(ThreadPool, TheOthersWork) {
  ThreadPool pool(2);
  std::atomic<int> arrived{0};
  pool.parallel_for(2, [&](std::int64_t) {
    ++arrived;
    const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
    while (arrived < 2 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
  });
  EXPECT_EQ(arrived.load(), 2);
}

TEST(ThreadPool, AnExceptionComesOutAndThePoolLivesOn) {
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (const std::int64_t bad : {0, 5, 99}) {
      try {
        pool.parallel_for(100, [&](std::int64_t chunk) {
          if (chunk == bad) fail("chunk {} is bad", chunk);
        });
        ADD_FAILURE() << "no exception";
      } catch (const Error& error) {
        EXPECT_EQ(error.what(), "chunk " + std::to_string(bad) + " is bad");
      }
      std::atomic<int> calls{0};
      pool.parallel_for(10, [&](std::int64_t) { ++calls; });
      EXPECT_EQ(calls.load(), 10);
    }
  }
}

TEST(ThreadPool, RefusesImpossibleSizes) {
  EXPECT_THROW(ThreadPool(0), Error);
  EXPECT_THROW(ThreadPool(-3), Error);
  EXPECT_THROW(ThreadPool(ThreadPool::kMaxThreads + 1), Error);
}

#if defined(__x86_64__)
/// A host that flushes denormals on the calling thread (and, through inheritance, on threads made by it) changes nothing
/// inside.
TEST(ThreadPool, DenormalsAreHonouredOnEveryThread) {
  const unsigned before = _mm_getcsr();
  _mm_setcsr(before | 0x8040);  // FTZ and DAZ
  {
    ThreadPool pool(3);
    std::atomic<int> arrived{0}, flushed{0};
    pool.parallel_for(3, [&](std::int64_t) {
      if ((_mm_getcsr() & 0xffc0) != 0x1f80) ++flushed;
      volatile float tiny = 0x1p-140f;
      if (tiny * 0.5f != 0x1p-141f) ++flushed;
      ++arrived;
      const auto until = std::chrono::steady_clock::now() + std::chrono::seconds(20);
      while (arrived < 3 && std::chrono::steady_clock::now() < until) std::this_thread::yield();
    });
    EXPECT_EQ(arrived.load(), 3);
    EXPECT_EQ(flushed.load(), 0);
    EXPECT_NE(_mm_getcsr() & 0x8040, 0u) << "the caller's own state is restored";
  }
  _mm_setcsr(before);
}
#endif

}  // namespace
}  // namespace greta::test
