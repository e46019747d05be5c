#include "model/pieces.h"

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>

namespace greta {

void for_pieces(std::size_t count, int threads, std::uint64_t total, const Progress& progress,
                const std::function<std::uint64_t(std::size_t, PieceBuffers&)>& work) {
  std::atomic<std::size_t> next{0};
  std::mutex mutex;
  std::uint64_t done = 0;
  std::exception_ptr failure;
  const auto run = [&] {
    PieceBuffers buffers;
    for (std::size_t i = next++; i < count; i = next++) {
      try {
        const std::uint64_t bytes = work(i, buffers);
        const std::lock_guard lock(mutex);
        done += bytes;
        if (progress) progress(done, total);
      } catch (...) {
        const std::lock_guard lock(mutex);
        if (!failure) failure = std::current_exception();
        next = count;
      }
    }
  };
  const auto wanted = threads > 0 ? static_cast<std::size_t>(threads) : std::size_t{std::thread::hardware_concurrency()};
  std::vector<std::jthread> helpers;
  for (std::size_t i = 1; i < std::min(wanted, count); ++i) helpers.emplace_back(run);
  run();
  helpers.clear();  // joins
  if (failure) std::rethrow_exception(failure);
}

}  // namespace greta
