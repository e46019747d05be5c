// A small pool of threads for the CPU routes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>

namespace greta {

/// `n_threads` threads, the caller included. A loop is cut into chunks that the caller of parallel_for fixes, never the pool:
/// what is computed in a chunk cannot depend on how many threads there are, only who computes it does.
class ThreadPool {
 public:
  static constexpr int kMaxThreads = 1024;
  /// Throws Error unless 1 <= n_threads <= kMaxThreads.
  explicit ThreadPool(int n_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int size() const;

  /// Calls body(chunk) once for every chunk in [0, n_chunks), and returns when all are done. The first exception is rethrown
  /// after that; chunks not yet begun are then skipped. Not to be called from inside a body, nor by two threads at once.
  template <class Body>
  void parallel_for(std::int64_t n_chunks, const Body& body) {
    run(
        n_chunks, [](const void* context, std::int64_t chunk) { (*static_cast<const Body*>(context))(chunk); }, &body);
  }

  /// Calls body(begin, end) for [0, n) cut into ranges of `grain` items (the last one may be shorter).
  template <class Body>
  void for_ranges(std::int64_t n, std::int64_t grain, const Body& body) {
    const std::int64_t size = std::max<std::int64_t>(grain, 1);
    parallel_for((n + size - 1) / size, [&](std::int64_t chunk) { body(chunk * size, std::min(n, (chunk + 1) * size)); });
  }

 private:
  using Function = void (*)(const void* context, std::int64_t chunk);
  void run(std::int64_t n_chunks, Function function, const void* context);
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace greta
