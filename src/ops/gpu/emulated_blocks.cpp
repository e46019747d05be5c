#include "ops/gpu/emulated_blocks.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <boost/context/detail/fcontext.hpp>
#include <exception>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

#if defined(__SANITIZE_ADDRESS__)
#define GRETA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GRETA_ASAN 1
#endif
#endif
#if defined(GRETA_ASAN)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace greta::gpu::emulation {
namespace {

namespace fcontext = boost::context::detail;

constexpr std::size_t kStackBytes = 256 * 1024;  // of address space; pages that no thread touches cost nothing

struct Schedule {
  Order order = Order::forward;
  std::uint64_t seed = 0;
};
Schedule schedule;  // set between launches

/// A stack and where its code goes on.
struct Fiber {
  fcontext::fcontext_t context = nullptr;
  void* stack = nullptr;  // lowest address; the page below it may not be touched
  const void* bottom = nullptr;
  std::size_t size = 0;
  void* fake_stack = nullptr;  // AddressSanitizer's
  int thread = -1;             // what it runs
};

void start_switch([[maybe_unused]] Fiber& from, [[maybe_unused]] const Fiber& to) {
#if defined(GRETA_ASAN)
  __sanitizer_start_switch_fiber(&from.fake_stack, to.bottom, to.size);
#endif
}
/// `from`: who switched here; its stack is learnt on the way, which is the only way for the caller's own.
void finish_switch([[maybe_unused]] Fiber& here_now, [[maybe_unused]] Fiber& from) {
#if defined(GRETA_ASAN)
  __sanitizer_finish_switch_fiber(here_now.fake_stack, &from.bottom, &from.size);
#endif
}

void switch_fiber(Fiber& from, Fiber& to) {
  start_switch(from, to);
  const fcontext::transfer_t back = fcontext::jump_fcontext(to.context, &from);
  auto& came_from = *static_cast<Fiber*>(back.data);
  came_from.context = back.fctx;
  finish_switch(from, came_from);
}

std::size_t page_bytes() {
  static const auto bytes = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}

void make_stack(Fiber& fiber) {
  void* memory =
      mmap(nullptr, page_bytes() + kStackBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) fail("emulated GPU: no memory for a stack of {} bytes", kStackBytes);
  mprotect(memory, page_bytes(), PROT_NONE);
  fiber.stack = static_cast<std::byte*>(memory) + page_bytes();
  fiber.bottom = fiber.stack;
  fiber.size = kStackBytes;
}
void free_stack(const Fiber& fiber) { munmap(static_cast<std::byte*>(fiber.stack) - page_bytes(), page_bytes() + kStackBytes); }

enum class State : std::uint8_t { unstarted, ready, waiting, finished };
enum class WaitKind : std::uint8_t { block, wave };

struct Thread {
  State state = State::unstarted;
  WaitKind kind = WaitKind::block;
  std::uint8_t turn = 0;  // parity of its wave calls: which half of Wave::offers is in use
  Fiber* fiber = nullptr;
  Where where;  // of the last wait
};

/// Threads that have come to one wait.
struct Gathering {
  int come = 0;
  Where where;
};

struct Wave {
  Gathering gathering;
  Offer offers[2][kMostLanes];
  void* lanes[kMostLanes];
};

std::uint64_t mixed(std::uint64_t x) {  // splitmix64's finaliser (Steele et al. 2014)
  x += 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  return x ^ (x >> 31);
}
template <class T>
void shuffle_order(std::vector<T>& order, std::uint64_t seed) {
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[mixed(seed + i) % i]);
}

std::string place(const Where& where) {
  const std::string_view file = where.file_name();
  return fmt::format("{}:{}", file.substr(file.rfind('/') + 1), where.line());
}
bool same_place(const Where& a, const Where& b) { return a.line() == b.line() && a.column() == b.column(); }

/// Runs blocks; one a host thread.
class Runner {
 public:
  ~Runner() {
    for (const auto& fiber : fibers_) free_stack(*fiber);
  }

  void launch(const Launch& at, int wave, void (*body)(const void*), const void* closure);
  void wait_for_block(const Where& where);
  const Offer* exchange(const void* value, std::size_t bytes, const Where& where);
  void together(void* mine, void (*act)(void*, void* const*), void* context, const Where& where);

 private:
  static void fiber_main(fcontext::transfer_t came);
  void run_block();
  void run_threads(Fiber& self);
  Fiber& idle_fiber();
  void start_fiber(Fiber& fiber);
  void abandon_fibers();
  int next_thread();
  void go_on(Fiber& from, int thread);
  void wait(Thread& self, WaitKind kind);
  bool join(Gathering& gathering, int all, Thread& self, WaitKind kind, const Where& where);
  void release_wave(int wave);
  Thread& running() { return threads_[static_cast<std::size_t>(here.thread)]; }
  int lanes_of(int wave) const { return std::min(wave_size_, here.threads - wave * wave_size_); }
  std::string prefix() const;
  std::string describe_deadlock() const;

  Launch at_{};
  int wave_size_ = 32;
  void (*body_)(const void*) = nullptr;
  const void* closure_ = nullptr;
  bool active_ = false;

  std::vector<std::unique_ptr<Fiber>> fibers_;
  std::vector<Fiber*> idle_;
  Fiber* entered_ = nullptr;  // the fiber last switched to
  Fiber main_;
  std::vector<Thread> threads_;
  std::vector<Wave> waves_;
  Gathering block_;
  std::vector<int> order_;
  std::size_t cursor_ = 0;  // of order_, where the search for a thread begins
  int finished_ = 0;
  std::exception_ptr error_;
};

Runner& runner() {
  thread_local Runner runner;
  return runner;
}

std::string Runner::prefix() const {
  return fmt::format("kernel '{}' of {}x{}x{} blocks of {} threads: in block ({}, {}, {})", at_.name, at_.x, at_.y, at_.z,
                     at_.threads, here.block[0], here.block[1], here.block[2]);
}

void Runner::fiber_main(fcontext::transfer_t came) {
  auto& from = *static_cast<Fiber*>(came.data);
  from.context = came.fctx;
  Runner& self = runner();
  Fiber& fiber = *self.entered_;
  finish_switch(fiber, from);
  for (;;) self.run_threads(fiber);
}

/// Runs the thread that was chosen for `self` and any that have not begun, until another fiber has work; then parks.
void Runner::run_threads(Fiber& self) {
  int chosen = self.thread;
  while (chosen >= 0) {
    Thread& thread = threads_[static_cast<std::size_t>(chosen)];
    if (thread.state != State::unstarted) break;
    thread.state = State::ready;
    thread.fiber = &self;
    self.thread = chosen;
    here.thread = chosen;
    try {
      body_(closure_);
    } catch (...) {
      error_ = std::current_exception();
    }
    thread.state = State::finished;
    ++finished_;
    chosen = error_ ? -1 : next_thread();
  }
  idle_.push_back(&self);
  go_on(self, chosen);
}

/// Switches from `from` to the fiber of `thread`, or to the caller of run_block() where there is none.
void Runner::go_on(Fiber& from, int thread) {
  if (thread < 0) return switch_fiber(from, main_);
  Thread& next = threads_[static_cast<std::size_t>(thread)];
  if (next.state == State::unstarted) {
    next.fiber = &idle_fiber();
    next.fiber->thread = thread;
  }
  entered_ = next.fiber;
  switch_fiber(from, *next.fiber);
}

Fiber& Runner::idle_fiber() {
  if (idle_.empty()) {
    fibers_.push_back(std::make_unique<Fiber>());
    make_stack(*fibers_.back());
    start_fiber(*fibers_.back());
    idle_.push_back(fibers_.back().get());
  }
  Fiber* fiber = idle_.back();
  idle_.pop_back();
  return *fiber;
}

void Runner::start_fiber(Fiber& fiber) {
  fiber.fake_stack = nullptr;
  fiber.context = fcontext::make_fcontext(static_cast<std::byte*>(fiber.stack) + fiber.size, fiber.size, fiber_main);
}

/// After an error: threads that wait will never go on. Their stacks hold nothing that wants a destructor.
void Runner::abandon_fibers() {
  idle_.clear();
  for (const auto& fiber : fibers_) {
#if defined(GRETA_ASAN)
    __asan_unpoison_memory_region(fiber->stack, fiber->size);
#endif
    start_fiber(*fiber);
    idle_.push_back(fiber.get());
  }
}

/// The next thread in order that can run, -1 where none can.
int Runner::next_thread() {
  const std::size_t n = order_.size();
  for (std::size_t i = 0; i < n; ++i) {
    cursor_ = cursor_ + 1 < n ? cursor_ + 1 : 0;
    const State state = threads_[static_cast<std::size_t>(order_[cursor_])].state;
    if (state == State::ready || state == State::unstarted) return order_[cursor_];
  }
  return -1;
}

void Runner::wait(Thread& self, WaitKind kind) {
  const int id = here.thread;
  self.state = State::waiting;
  self.kind = kind;
  go_on(*self.fiber, next_thread());
  here.thread = id;
}

/// Counts the calling thread in; true for the last one, which nobody has to wake.
bool Runner::join(Gathering& gathering, int all, Thread& self, WaitKind kind, const Where& where) {
  self.where = where;
  self.kind = kind;
  if (gathering.come == 0)
    gathering.where = where;
  else if (!same_place(gathering.where, where))
    fail("{} thread {} calls {} while others of its {} wait at {}; all must come to the same place", prefix(), here.thread,
         place(where), kind == WaitKind::block ? "block" : "wave", place(gathering.where));
  return ++gathering.come == all;
}

void Runner::wait_for_block(const Where& where) {
  Thread& self = running();
  if (!join(block_, here.threads, self, WaitKind::block, where)) return wait(self, WaitKind::block);
  block_.come = 0;
  for (Thread& thread : threads_)
    if (thread.state == State::waiting) thread.state = State::ready;
}

void Runner::release_wave(int wave) {
  waves_[static_cast<std::size_t>(wave)].gathering.come = 0;
  for (int i = wave * wave_size_, end = i + lanes_of(wave); i < end; ++i) {
    Thread& thread = threads_[static_cast<std::size_t>(i)];
    if (thread.state == State::waiting && thread.kind == WaitKind::wave) thread.state = State::ready;
  }
}

const Offer* Runner::exchange(const void* value, std::size_t bytes, const Where& where) {
  Thread& self = running();
  const int index = here.thread / wave_size_;
  if (lanes_of(index) != wave_size_)
    fail("{} thread {} calls a wave function at {}, but its wave has {} of {} lanes; launch whole waves", prefix(), here.thread,
         place(where), lanes_of(index), wave_size_);
  Wave& wave = waves_[static_cast<std::size_t>(index)];
  // Two sets of offers in turn: no lane comes to the next call but one before all have read this one.
  Offer* offers = wave.offers[self.turn];
  self.turn ^= 1;
  if (bytes > 0) std::memcpy(offers[here.thread % wave_size_].bytes, value, bytes);
  if (join(wave.gathering, wave_size_, self, WaitKind::wave, where))
    release_wave(index);
  else
    wait(self, WaitKind::wave);
  return offers;
}

void Runner::together(void* mine, void (*act)(void*, void* const*), void* context, const Where& where) {
  Thread& self = running();
  const int index = here.thread / wave_size_;
  if (lanes_of(index) != wave_size_)
    fail("{} thread {} calls a wave function at {}, but its wave has {} of {} lanes; launch whole waves", prefix(), here.thread,
         place(where), lanes_of(index), wave_size_);
  Wave& wave = waves_[static_cast<std::size_t>(index)];
  wave.lanes[here.thread % wave_size_] = mine;
  if (!join(wave.gathering, wave_size_, self, WaitKind::wave, where)) return wait(self, WaitKind::wave);
  act(context, wave.lanes);
  release_wave(index);
}

std::string Runner::describe_deadlock() const {
  const auto waits = [](const Thread& thread) { return thread.state == State::waiting; };
  const auto first = std::find_if(threads_.begin(), threads_.end(), waits);
  const auto begin = first->kind == WaitKind::block ? threads_.begin()
                                                    : threads_.begin() + (first - threads_.begin()) / wave_size_ * wave_size_;
  const auto end = first->kind == WaitKind::block ? threads_.end() : begin + wave_size_;
  const auto missing = std::find_if(begin, end, [&](const Thread& thread) {
    return !waits(thread) || thread.kind != first->kind || !same_place(thread.where, first->where);
  });
  const auto n = std::count_if(begin, end, [&](const Thread& thread) {
    return waits(thread) && thread.kind == first->kind && same_place(thread.where, first->where);
  });
  const std::string does = missing->state == State::finished ? "has finished" : "waits at " + place(missing->where);
  return fmt::format("{} {} threads wait at {} for thread {}, which {}", prefix(), n, place(first->where),
                     missing - threads_.begin(), does);
}

void Runner::run_block() {
  const auto n = static_cast<std::size_t>(here.threads);
  threads_.assign(n, Thread{});
  for (Wave& wave : waves_) wave.gathering = {};
  block_ = {};
  finished_ = 0;
  error_ = nullptr;
  cursor_ = n - 1;
  go_on(main_, next_thread());
  if (finished_ == here.threads && !error_) return;
  const std::string deadlock = error_ ? "" : describe_deadlock();
  abandon_fibers();
  if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
  throw Error(deadlock);
}

/// Why hardware with waves of `wave` lanes would refuse it; null where it would not. 32: sm_90 (CUDA C++ Programming Guide,
/// "Compute Capabilities"); 64: CDNA 3, whose workgroups have 64 KiB of LDS.
const char* refusal(const Launch& at, int wave) {
  if (at.x < 1 || at.y < 1 || at.z < 1 || at.x > 0x7fffffff || at.y > 65535 || at.z > 65535)
    return "a grid has 1 to 2147483647 x 65535 x 65535 blocks";
  if (at.threads < 1 || at.threads > 1024) return "a block has 1 to 1024 threads";
  if (wave == 64 && at.x * at.threads > 0xffffffff) return "a grid has at most 4294967295 threads along x";
  if (at.shared > (wave == 64 ? 65536u : 232448u))
    return wave == 64 ? "a block has at most 65536 bytes of shared memory"
                      : "a block has at most 232448 bytes of shared memory";
  return nullptr;
}

void Runner::launch(const Launch& at, int wave, void (*body)(const void*), const void* closure) {
  if (const char* words = refusal(at, wave)) launch_failed(at, words);
  if (active_) fail("kernel '{}': launched from within kernel '{}'", at.name, at_.name);
  at_ = at;
  wave_size_ = wave;
  body_ = body;
  closure_ = closure;
  here.threads = at.threads;
  waves_.resize(static_cast<std::size_t>((at.threads + wave - 1) / wave));
  order_.resize(static_cast<std::size_t>(at.threads));
  for (int i = 0; i < at.threads; ++i)
    order_[static_cast<std::size_t>(i)] = schedule.order == Order::reverse ? at.threads - 1 - i : i;
  here.grid[0] = static_cast<int>(at.x);
  here.grid[1] = static_cast<int>(at.y);
  here.grid[2] = static_cast<int>(at.z);
  const std::int64_t n_blocks = at.x * at.y * at.z;
  std::vector<std::int64_t> blocks;
  if (schedule.order == Order::shuffled) {
    blocks.resize(static_cast<std::size_t>(n_blocks));
    for (std::int64_t i = 0; i < n_blocks; ++i) blocks[static_cast<std::size_t>(i)] = i;
    shuffle_order(blocks, schedule.seed);
  }
  const std::unique_ptr<std::byte[]> shared(new std::byte[at.shared]);  // operator new gives 16-byte alignment
  here.shared = shared.get();
  active_ = true;
  const struct Reset {
    bool& active;
    ~Reset() { active = false; }
  } reset{active_};
  for (std::int64_t i = 0; i < n_blocks; ++i) {
    std::int64_t block = schedule.order == Order::reverse ? n_blocks - 1 - i : i;
    if (schedule.order == Order::shuffled) {
      block = blocks[static_cast<std::size_t>(i)];
      shuffle_order(order_, mixed(schedule.seed) + static_cast<std::uint64_t>(block));
    }
    here.block[0] = static_cast<int>(block % at.x);
    here.block[1] = static_cast<int>(block / at.x % at.y);
    here.block[2] = static_cast<int>(block / at.x / at.y);
    std::memset(shared.get(), 0xff, at.shared);
    run_block();
  }
}

}  // namespace

void wait_for_block(const Where& where) { runner().wait_for_block(where); }
const Offer* exchange(const void* value, std::size_t bytes, const Where& where) {
  return runner().exchange(value, bytes, where);
}
void together(void* mine, void (*act)(void*, void* const*), void* context, const Where& where) {
  runner().together(mine, act, context, where);
}
void set_schedule(Order order, std::uint64_t seed) { schedule = {order, seed}; }
void run_blocks(const Launch& at, int wave, void (*body)(const void*), const void* closure) {
  runner().launch(at, wave, body, closure);
}

}  // namespace greta::gpu::emulation
