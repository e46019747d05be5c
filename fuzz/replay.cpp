// Runs a fuzz target over files instead of under libFuzzer: `replay_TARGET FILE|DIRECTORY...`. Missing directories are no error
// (a target may have no regressions yet), finding no file at all is. Bounds what the fuzzer bounds: 10 s for an input, and 64
// MiB for one allocation.
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "fuzz/fuzz.h"

namespace {

namespace fs = std::filesystem;

[[maybe_unused]] constexpr std::size_t kMaxAllocation = std::size_t{64} << 20;  // a sanitizer bounds it by its own option
constexpr unsigned kMaxSeconds = 10;
std::string current;  // the input's path, for the handler

void on_alarm(int) {
  constexpr char words[] = "replay: more than 10 s for ";
  [[maybe_unused]] ssize_t done = ::write(2, words, sizeof(words) - 1);
  done = ::write(2, current.data(), current.size());
  done = ::write(2, "\n", 1);
  ::_exit(1);
}

std::vector<fs::path> inputs(int argc, char** argv) {
  std::vector<fs::path> out;
  for (int i = 1; i < argc; ++i) {
    if (fs::is_regular_file(argv[i])) out.emplace_back(argv[i]);
    if (!fs::is_directory(argv[i])) continue;
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(argv[i]))
      if (entry.is_regular_file()) out.push_back(entry.path());
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace

#if defined(__SANITIZE_ADDRESS__)
extern "C" const char* __asan_default_options() { return "max_allocation_size_mb=64"; }
#else
// Not inlined: g++ 12 takes an inlined free() for one that does not match `new` (-Wmismatched-new-delete).
[[gnu::noinline]] void* operator new(std::size_t size) {
  if (size > kMaxAllocation) {
    std::fprintf(stderr, "replay: %s: an allocation of %zu bytes\n", current.c_str(), size);
    std::abort();
  }
  void* const memory = std::malloc(size > 0 ? size : 1);
  if (memory == nullptr) throw std::bad_alloc();
  return memory;
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
#endif

int main(int argc, char** argv) {
  std::signal(SIGALRM, on_alarm);
  const std::vector<fs::path> files = inputs(argc, argv);
  const auto start = std::chrono::steady_clock::now();
  for (const fs::path& file : files) {
    current = file.string();
    std::ifstream in(file, std::ios::binary);
    const std::string content{std::istreambuf_iterator<char>(in), {}};
    // Without a byte behind it, so that a sanitizer sees the first byte read too far.
    const std::unique_ptr<std::uint8_t[]> exact(new std::uint8_t[content.size()]);
    std::copy(content.begin(), content.end(), exact.get());
    ::alarm(kMaxSeconds);
    LLVMFuzzerTestOneInput(exact.get(), content.size());
    ::alarm(0);
  }
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%zu inputs, %.2f s\n", files.size(), took.count());
  if (!files.empty()) return 0;
  std::fprintf(stderr, "replay: no inputs; give files or directories of them\n");
  return 2;
}
