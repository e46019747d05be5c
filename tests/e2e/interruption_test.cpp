// What ends a run from outside - kill -9, Ctrl-C, a full disk, a directory in use - leaves nothing that could be taken for a
// run.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <filesystem>
#include <map>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "tests/support/command.h"

namespace greta::test {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

/// Exit code 2 and exactly one line on stderr, which says `word`.
void expect_one_line_error(const CommandResult& result, const std::string& word) {
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_EQ(result.err.rfind("greta: error: ", 0), 0u) << result.err;
  EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  EXPECT_NE(result.err.find(word), std::string::npos) << result.err;
}

/// Bytes of every file below `directory`.
std::map<std::string, std::string> contents(const fs::path& directory) {
  std::map<std::string, std::string> files;
  for (const auto& entry : fs::recursive_directory_iterator(directory))
    if (entry.is_regular_file()) files[fs::relative(entry.path(), directory)] = read_file(entry.path());
  return files;
}

class Interruption : public testing::Test {
 protected:
  void SetUp() override {
    model_ = folder_.path() / "tiny.gguf";
    const CommandResult made = greta({"models", "synth", "--shape", "tiny", "--seed", "7", "--out", model_});
    ASSERT_EQ(made.exit_code, 0) << made.err;
  }
  void TearDown() override {
    if (HasFailure()) folder_.keep();
  }

  /// The job: what it writes goes to `out`.
  std::vector<std::string> job(const fs::path& out) const { return {GRETA_BINARY, "isolate", "--model", model_, "--out", out}; }
  std::vector<std::string> small_job(const fs::path& out) const {
    std::vector<std::string> arguments = job(out);
    arguments.insert(arguments.end(), {"--prompt", "Once upon a time"});
    return arguments;
  }
  /// Starts the job and sends `signal` after `delay`; its wait status.
  int start_and_signal(const std::vector<std::string>& arguments, std::chrono::microseconds delay, int signal) const {
    const pid_t child = fork();
    if (child == 0) {
      if (freopen("/dev/null", "w", stderr) == nullptr) _exit(126);
      std::vector<char*> argv;
      for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      _exit(127);
    }
    std::this_thread::sleep_for(delay);
    kill(child, signal);
    int status = 0;
    waitpid(child, &status, 0);
    return status;
  }
  std::string table_of(const fs::path& run, int* exit_code) const {
    const fs::path table = folder_.path() / "table.txt";
    fs::remove(table);
    *exit_code = greta({"analyze", "--dir", run, "--out", table}).exit_code;
    return read_file(table);
  }
  void kill_at_random_moments(int times, std::uint32_t seed);

  TemporaryDirectory folder_;
  fs::path model_;
};

void Interruption::kill_at_random_moments(int times, std::uint32_t seed) {
  const fs::path undisturbed = folder_.path() / "undisturbed";
  const auto begin = Clock::now();
  ASSERT_EQ(run_command(job(undisturbed)).exit_code, 0);
  const auto whole = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - begin);
  int code = 0;
  const std::string table = table_of(undisturbed, &code);
  ASSERT_NE(table, "");

  std::mt19937 random(seed);
  int killed = 0, torn = 0;
  for (int i = 0; i < times; ++i) {
    const fs::path out = folder_.path() / ("run" + std::to_string(i));
    // The last fifth of the moments fall into the end, where the directory is written and renamed.
    const std::int64_t from = i >= times * 4 / 5 ? whole.count() * 9 / 10 : 0;
    const std::chrono::microseconds delay(std::uniform_int_distribution<std::int64_t>(from, whole.count())(random));
    SCOPED_TRACE("seed " + std::to_string(seed) + ", killed after " + std::to_string(delay.count()) + " of " +
                 std::to_string(whole.count()) + " us");
    const int status = start_and_signal(job(out), delay, SIGKILL);
    killed += WIFSIGNALED(status);
    const fs::path incomplete = out.string() + ".incomplete";
    int out_code = 0;
    if (fs::exists(out)) {
      EXPECT_EQ(table_of(out, &out_code), table);  // it has its name: it is whole
      EXPECT_EQ(out_code, code);
    } else if (fs::exists(incomplete)) {
      ++torn;
      for (const fs::path& asked : {out, incomplete})
        expect_one_line_error(greta({"analyze", "--dir", asked, "--out", folder_.path() / "no.txt"}), "incomplete");
      EXPECT_FALSE(fs::exists(folder_.path() / "no.txt"));
      EXPECT_EQ(run_command(job(out)).exit_code, 0);  // what was left does not stand in the way
      EXPECT_EQ(table_of(out, &out_code), table);
      EXPECT_FALSE(fs::exists(incomplete));
    }
  }
  std::printf("%d of %d runs were killed before their end, %d of them left an .incomplete directory\n", killed, times, torn);
  EXPECT_GT(killed, 0);
}

TEST_F(Interruption, KilledAtFiveRandomMomentsNoTornRunIsTakenForWhole) { kill_at_random_moments(5, 20260131); }

class HeavyInterruption : public Interruption {};
TEST_F(HeavyInterruption, KilledAtTwentyRandomMomentsNoTornRunIsTakenForWhole) { kill_at_random_moments(20, 41); }

TEST_F(Interruption, CtrlCGives130AndNoRun) {
  const fs::path out = folder_.path() / "run";
  const int status = start_and_signal(job(out), std::chrono::milliseconds(30), SIGINT);
  EXPECT_EQ(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), 130);
  EXPECT_FALSE(fs::exists(out));
}

/// A disk that takes `kilobytes` a file: writes beyond fail as on a full one, and the signal that would end us is ignored.
/// stderr goes through a pipe, which has no such limit, and comes back as `err`.
CommandResult with_small_files(const std::vector<std::string>& arguments, int kilobytes) {
  const std::string limited =
      "(trap '' XFSZ; ulimit -f " + std::to_string(kilobytes) + "; exec \"$@\") 2>&1 | cat; exit ${PIPESTATUS[0]}";
  std::vector<std::string> command{"bash", "-c", limited, "bash"};
  command.insert(command.end(), arguments.begin(), arguments.end());
  CommandResult result = run_command(command);
  result.err = result.out;
  return result;
}

TEST_F(Interruption, WritesThatFailAreOneLineAndNoRun) {
  for (const int kilobytes : {0, 1, 8}) {
    SCOPED_TRACE(kilobytes);
    const fs::path out = folder_.path() / ("small" + std::to_string(kilobytes));
    expect_one_line_error(with_small_files(small_job(out), kilobytes), "File too large");
    EXPECT_FALSE(fs::exists(out));
  }
  const fs::path model = folder_.path() / "synth.gguf";
  expect_one_line_error(with_small_files({GRETA_BINARY, "models", "synth", "--shape", "tiny", "--out", model}, 8),
                        "File too large");
  EXPECT_FALSE(fs::exists(model));
  const fs::path logits = folder_.path() / "logits.safetensors";
  expect_one_line_error(with_small_files({GRETA_BINARY, "run", "--model", model_, "--prompt", "Hi there", "--max-tokens", "0",
                                          "--greedy", "--logits-all", "--logits-out", logits},
                                         1),
                        "File too large");
  EXPECT_FALSE(fs::exists(logits));
}

TEST_F(Interruption, OutputsThatCannotBeWrittenAreAnError) {
  const auto redirected = [](const std::string& where, std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"bash", "-c", "exec \"$@\" " + where, "bash", GRETA_BINARY});
    return run_command(arguments);
  };
  expect_one_line_error(redirected(">/dev/full", {"doctor", "--json"}), "stdout");
  expect_one_line_error(redirected(">/dev/full", {"routes"}), "stdout");
  EXPECT_EQ(redirected("2>/dev/full", {"run", "--no-such-option"}).exit_code, 2);  // no words, but no crash either
}

TEST_F(Interruption, AFullDiskIsOneLineAndNoRun) {
  const fs::path disk = folder_.path() / "disk";
  fs::create_directory(disk);
  // A mount of our own name space: nothing to clean up, and no root needed where user name spaces are allowed.
  std::vector<std::string> mounted{"unshare", "--mount"};
  if (geteuid() != 0) mounted = {"unshare", "--user", "--map-root-user", "--mount"};
  auto in_mount = [&](const std::string& script) {
    std::vector<std::string> command = mounted;
    command.insert(command.end(), {"sh", "-c", "mount -t tmpfs -o size=48k none \"$0\" || exit 99; " + script, disk});
    const std::vector<std::string> arguments = small_job(disk / "run");
    command.insert(command.end(), arguments.begin(), arguments.end());
    return run_command(command);
  };
  if (in_mount("exit 0").exit_code != 0) {
    std::printf("a tmpfs cannot be mounted here: the disk-full part is passed over\n");
    return;
  }
  const CommandResult result = in_mount("\"$@\"; code=$?; [ -e \"$0/run\" ] && exit 98; exit $code");
  expect_one_line_error(result, "No space left on device");
}

TEST_F(Interruption, ADirectoryInUseOrNotWritableIsRefusedAndLeftAsItWas) {
  const fs::path used = folder_.path() / "used";
  fs::create_directory(used);
  write_file(used / "notes.txt", "mine");
  const auto before = contents(used);
  expect_one_line_error(run_command(small_job(used)), "not empty");
  EXPECT_EQ(contents(used), before);
  EXPECT_FALSE(fs::exists(used.string() + ".incomplete"));

  const fs::path file = folder_.path() / "file";
  write_file(file, "mine");
  expect_one_line_error(run_command(small_job(file)), file);
  expect_one_line_error(run_command(small_job(file / "below")), file);
  EXPECT_EQ(read_file(file), "mine");
  expect_one_line_error(run_command(small_job("/proc/greta-run")), "/proc/greta-run");

  const fs::path empty = folder_.path() / "empty";  // nothing of the user's is in it
  fs::create_directory(empty);
  EXPECT_EQ(run_command(small_job(empty)).exit_code, 0);
  EXPECT_TRUE(fs::exists(empty / "manifest.json"));
}

}  // namespace
}  // namespace greta::test
