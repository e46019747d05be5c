#include "ops/cpu/thread_pool.h"

#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "core/error.h"
#include "ops/cpu/fp_state.h"

namespace greta {
namespace {

/// A worker spins this long for the next loop before it sleeps: the ops of a decode step follow each other within microseconds,
/// and waking a sleeping thread costs more than such an op.
constexpr int kSpins = 4000;

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#endif
}

}  // namespace

/// One loop at a time. `epoch` odd: a loop is open. A worker joins by counting itself into `inside` and then looking at `epoch`
/// again, so the caller, once it has closed the epoch and seen `inside` at zero, knows that nobody reads the loop any more.
struct ThreadPool::Impl {
  std::vector<std::thread> workers;
  std::atomic<std::uint64_t> epoch{0};
  std::atomic<int> inside{0};
  std::atomic<int> sleeping{0};
  std::atomic<bool> stop{false};
  std::mutex mutex;
  std::condition_variable wake;

  Function function = nullptr;
  const void* context = nullptr;
  std::int64_t n_chunks = 0;
  std::atomic<std::int64_t> next{0};
  std::atomic<bool> failed{false};
  std::exception_ptr failure;

  void drain() {
    for (;;) {
      const std::int64_t chunk = next.fetch_add(1);
      if (chunk >= n_chunks || failed.load(std::memory_order_relaxed)) return;
      try {
        function(context, chunk);
      } catch (...) {
        const std::lock_guard<std::mutex> lock(mutex);
        if (!failed.exchange(true)) failure = std::current_exception();
      }
    }
  }

  /// Waits until another epoch than `seen` is open; false: the pool is being destroyed.
  bool wait_for_loop(std::uint64_t seen) {
    const auto ready = [&] {
      const std::uint64_t now = epoch.load();
      return stop.load() || ((now & 1) != 0 && now != seen);
    };
    for (int i = 0; i < kSpins; ++i) {
      if (ready()) return !stop.load();
      pause();
    }
    std::unique_lock<std::mutex> lock(mutex);
    sleeping.fetch_add(1);
    wake.wait(lock, ready);
    sleeping.fetch_sub(1);
    return !stop.load();
  }

  void join() {
    {
      const std::lock_guard<std::mutex> lock(mutex);
      stop = true;
    }
    wake.notify_all();
    for (std::thread& worker : workers) worker.join();
    workers.clear();
  }

  void work() {
    const ScopedFpState fp_state;
    std::uint64_t seen = 0;
    while (wait_for_loop(seen)) {
      inside.fetch_add(1);
      const std::uint64_t now = epoch.load();
      if ((now & 1) != 0) {
        seen = now;
        drain();
      }
      inside.fetch_sub(1);
    }
  }
};

ThreadPool::ThreadPool(int n_threads) : impl_(std::make_unique<Impl>()) {
  if (n_threads < 1 || n_threads > kMaxThreads) fail("threads: {} is not in 1..{}", n_threads, kMaxThreads);
  try {
    for (int i = 1; i < n_threads; ++i) impl_->workers.emplace_back([this] { impl_->work(); });
  } catch (const std::system_error& error) {
    const std::size_t started = impl_->workers.size() + 1;
    impl_->join();
    fail("threads: the system gave {} of {} ({}); ask for fewer", started, n_threads, error.what());
  }
}

ThreadPool::~ThreadPool() { impl_->join(); }

int ThreadPool::size() const { return static_cast<int>(impl_->workers.size()) + 1; }

void ThreadPool::run(std::int64_t n_chunks, Function function, const void* context) {
  const ScopedFpState fp_state;
  if (n_chunks <= 1 || impl_->workers.empty()) {
    for (std::int64_t chunk = 0; chunk < n_chunks; ++chunk) function(context, chunk);
    return;
  }
  Impl& pool = *impl_;
  pool.function = function;
  pool.context = context;
  pool.n_chunks = n_chunks;
  pool.next = 0;
  pool.failed = false;
  pool.failure = nullptr;
  pool.epoch.fetch_add(1);  // open
  if (pool.sleeping.load() > 0) {
    // A worker between its last look and its sleep holds the mutex: taking it here keeps the wake-up from being lost.
    { const std::lock_guard<std::mutex> lock(pool.mutex); }
    pool.wake.notify_all();
  }
  pool.drain();
  pool.epoch.fetch_add(1);  // closed: a worker that wakes now stays out
  for (int i = 0; pool.inside.load() != 0; ++i) {
    if (i < kSpins) {
      pause();
    } else {
      std::this_thread::yield();  // more threads than cores: let the last one finish
    }
  }
  if (pool.failure) std::rethrow_exception(pool.failure);
}

}  // namespace greta
