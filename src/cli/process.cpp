#include "cli/process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string_view>
#include <utility>

#include "core/error.h"

extern char** environ;

namespace greta::cli {
namespace {

volatile std::sig_atomic_t g_noted = 0;
extern "C" void note_signal(int signal) { g_noted = signal; }

constexpr std::array kNotedSignals{SIGINT, SIGTERM, SIGHUP};
std::array<struct sigaction, kNotedSignals.size()> g_previous;

/// A file descriptor that is closed once.
class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Fd() { close(); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  int get() const { return fd_; }

 private:
  int fd_ = -1;
};

struct Pipe {
  Fd read, write;
  Pipe() {
    int fds[2];
    if (pipe2(fds, O_CLOEXEC) != 0) fail("pipe: {}", std::strerror(errno));
    read = Fd(fds[0]);
    write = Fd(fds[1]);
  }
};

/// SIGPIPE would end us when a child closes its stdin early; EPIPE tells the same.
class PipeSignalIgnored {
 public:
  PipeSignalIgnored() : previous_(std::signal(SIGPIPE, SIG_IGN)) {}
  ~PipeSignalIgnored() { std::signal(SIGPIPE, previous_); }
  PipeSignalIgnored(const PipeSignalIgnored&) = delete;
  PipeSignalIgnored& operator=(const PipeSignalIgnored&) = delete;

 private:
  void (*previous_)(int);
};

pid_t spawn(const Command& command, const Pipe& in, const Pipe& out, const Pipe& err) {
  posix_spawn_file_actions_t actions;
  posix_spawnattr_t attributes;
  posix_spawn_file_actions_init(&actions);
  posix_spawnattr_init(&attributes);
  posix_spawn_file_actions_adddup2(&actions, in.read.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&actions, command.out == Sink::keep ? out.write.get() : STDERR_FILENO, STDOUT_FILENO);
  if (command.err == Sink::keep) posix_spawn_file_actions_adddup2(&actions, err.write.get(), STDERR_FILENO);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);

  std::vector<char*> argv;
  for (const std::string& argument : command.argv) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  pid_t pid = -1;
  const int error = posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (error != 0) fail("{}: {}; is it installed?", command.argv[0], std::strerror(error));
  return pid;
}

/// Reads what is there; closes the descriptor at its end.
void drain(Fd& from, std::string& into) {
  std::array<char, 1 << 16> buffer;
  const ssize_t n = read(from.get(), buffer.data(), buffer.size());
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n <= 0) return from.close();
  into.append(buffer.data(), static_cast<std::size_t>(n));
  if (into.size() > 2 * kKeptBytes) into.erase(0, into.size() - kKeptBytes);
}

void feed(Fd& to, std::string_view& rest) {
  const ssize_t n = write(to.get(), rest.data(), rest.size());
  if (n < 0 && (errno == EINTR || errno == EAGAIN)) return;
  if (n < 0) return to.close();  // EPIPE: the child reads no more
  rest.remove_prefix(static_cast<std::size_t>(n));
  if (rest.empty()) to.close();
}

/// Moves bytes until the child has closed its ends; after a noted signal, ends the child.
void exchange(pid_t pid, std::string_view input, Fd& in, Fd& out, Fd& err, Outcome& outcome) {
  fcntl(in.get(), F_SETFL, O_NONBLOCK);
  if (input.empty()) in.close();
  bool ended = false;
  while (in.get() >= 0 || out.get() >= 0 || err.get() >= 0) {
    if (g_noted != 0 && !std::exchange(ended, true)) kill(pid, SIGTERM);
    std::array<pollfd, 3> fds{pollfd{in.get(), POLLOUT, 0}, pollfd{out.get(), POLLIN, 0}, pollfd{err.get(), POLLIN, 0}};
    if (poll(fds.data(), fds.size(), 200) <= 0) continue;  // poll passes over negative descriptors
    if (fds[0].revents != 0) feed(in, input);
    if (fds[1].revents != 0) drain(out, outcome.out);
    if (fds[2].revents != 0) drain(err, outcome.err);
  }
}

/// Not one blocking waitpid: a signal noted just before it would go unseen.
int wait_for(pid_t pid) {
  int status = 0;
  bool ended = false;
  for (pid_t done = 0; done == 0;) {
    done = waitpid(pid, &status, WNOHANG);
    if (done < 0 && errno == EINTR) done = 0;
    if (done < 0) fail("waitpid: {}", std::strerror(errno));
    if (done != 0) break;
    if (g_noted != 0 && !std::exchange(ended, true)) kill(pid, SIGTERM);
    poll(nullptr, 0, 10);
  }
  return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

Outcome run_command(const Command& command) {
  if (InterruptGuard::noted()) throw Interrupted{};
  const PipeSignalIgnored ignored;
  Pipe in, out, err;
  const pid_t pid = spawn(command, in, out, err);
  in.read.close();
  out.write.close();
  err.write.close();
  Outcome outcome;
  exchange(pid, command.input, in.write, out.read, err.read, outcome);
  outcome.exit_code = wait_for(pid);
  if (InterruptGuard::noted()) throw Interrupted{};
  return outcome;
}

std::string last_line(const std::string& text) {
  const auto end = text.find_last_not_of(" \t\r\n");
  if (end == std::string::npos) return "";
  const auto before = text.find_last_of("\r\n", end);
  return text.substr(before == std::string::npos ? 0 : before + 1, end - (before == std::string::npos ? 0 : before + 1) + 1);
}

InterruptGuard::InterruptGuard() {
  g_noted = 0;
  struct sigaction action {};
  action.sa_handler = note_signal;
  sigemptyset(&action.sa_mask);
  for (std::size_t i = 0; i < kNotedSignals.size(); ++i) sigaction(kNotedSignals[i], &action, &g_previous[i]);
}

InterruptGuard::~InterruptGuard() {
  for (std::size_t i = 0; i < kNotedSignals.size(); ++i) sigaction(kNotedSignals[i], &g_previous[i], nullptr);
}

void InterruptGuard::clear() { g_noted = 0; }
bool InterruptGuard::noted() { return g_noted != 0; }

}  // namespace greta::cli
