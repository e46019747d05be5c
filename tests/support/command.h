// Runs a command and keeps what it prints.
#pragma once

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <stdexcept>
#include <string>
#include <vector>

namespace greta::test {

inline std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

inline void write_file(const std::filesystem::path& path, const std::string& bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

/// A directory of its own, removed at the end unless the test failed (then its place is printed).
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    std::string name = (std::filesystem::temp_directory_path() / "greta-test-XXXXXX").string();
    if (mkdtemp(name.data()) == nullptr) throw std::runtime_error("no temporary directory");
    path_ = name;
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
  ~TemporaryDirectory() {
    if (keep_) {
      std::fprintf(stderr, "artefacts kept in %s\n", path_.c_str());
      return;
    }
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  void keep() { keep_ = true; }
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
  bool keep_ = false;
};

struct CommandResult {
  int exit_code = -1;  // 128 + signal where a signal ended it
  std::string out, err;
};

/// Runs `arguments[0]` with the environment of the test plus `environment` ("NAME=value").
inline CommandResult run_command(const std::vector<std::string>& arguments, const std::vector<std::string>& environment = {},
                                 const std::filesystem::path& directory = {}) {
  const TemporaryDirectory scratch;
  const std::string out = scratch.path() / "out", err = scratch.path() / "err";
  const pid_t child = fork();
  if (child == 0) {
    const int to_out = open(out.c_str(), O_WRONLY | O_CREAT, 0600), to_err = open(err.c_str(), O_WRONLY | O_CREAT, 0600);
    const int from = open("/dev/null", O_RDONLY);
    dup2(from, 0);
    dup2(to_out, 1);
    dup2(to_err, 2);
    if (!directory.empty() && chdir(directory.c_str()) != 0) _exit(126);
    for (const std::string& variable : environment) putenv(const_cast<char*>(variable.c_str()));
    std::vector<char*> argv;
    for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
    argv.push_back(nullptr);
    execvp(argv[0], argv.data());
    _exit(127);
  }
  int status = 0;
  waitpid(child, &status, 0);
  CommandResult result;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = read_file(out);
  result.err = read_file(err);
  return result;
}

/// Runs greta.
inline CommandResult greta(std::vector<std::string> arguments, const std::vector<std::string>& environment = {},
                           const std::filesystem::path& directory = {}) {
  arguments.insert(arguments.begin(), GRETA_BINARY);
  return run_command(arguments, environment, directory);
}

/// A file of the optional external fixtures; empty where it is absent, which is printed.
inline std::filesystem::path fixture(const std::string& name) {
  const std::filesystem::path path = std::filesystem::path(GRETA_FIXTURES) / name;
  if (std::filesystem::exists(path)) return path;
  std::printf("optional external fixture %s is absent: this part is passed over\n", name.c_str());
  return {};
}

}  // namespace greta::test
