#include "cli/remote_run.h"

#include <fmt/format.h>

#include <cstdio>
#include <random>
#include <sstream>
#include <utility>

#include "cli/remote_scripts.h"
#include "core/error.h"
#include "core/quote.h"

namespace greta::cli {
namespace {

/// The value of the last line `key value` that our script wrote: login scripts may write lines of their own.
std::string answer(const std::string& out, const std::string& key) {
  std::istringstream lines(out);
  std::string value;
  for (std::string line; std::getline(lines, line);)
    if (line.starts_with(key + " ")) value = line.substr(key.size() + 1);
  return value;
}

}  // namespace

std::string random_token() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}", device(), device());
}

RemoteRun::RemoteRun(RemoteHost host, RemoteJob job, const SourceTree& source)
    : host_(std::move(host)), job_(std::move(job)), source_(source), cache_(fmt::format(".cache/greta/src-{}", source.hash)) {}

RemoteRun::~RemoteRun() {
  try {
    clean();
  } catch (...) {  // what went wrong first is on its way already
  }
}

std::string RemoteRun::settings() const {
  return fmt::format("cache={}\nhash={}\nmodel={}\ndirectory={}\nexperiment={}\n", shell_word(cache_), shell_word(source_.hash),
                     shell_path(job_.model), shell_word(directory_), shell_word(job_.experiment_toml.value_or("")));
}

void RemoteRun::fail_with(const Outcome& outcome) const {
  const std::string why = last_line(outcome.err);
  switch (outcome.exit_code) {
    case kModelUnreadable:
      fail("{}: model {} cannot be read there; --model takes a path on the remote machine", host_.name(), quote(job_.model));
    case kToolMissing:
      fail("{}: {} is missing there; run there: apt-get install {}", host_.name(), why, why);
    case kPackagesMissing:
      fail("{}: packages are missing there ({}); run there: ~/{}/scripts/install-deps.sh --build-only", host_.name(), why,
           cache_);
    case kBuildFailed:
      fail("{}: the build failed there: {}; see ~/{}/.greta-build.log there", host_.name(), why, cache_);
    case kNoDirectory:
      fail("{}: a directory of ours cannot be made there: {}", host_.name(), why);
    default:
      fail("{}: our script there ended with exit code {}: {}", host_.name(), outcome.exit_code, why);
  }
}

void RemoteRun::prepare() {
  const Outcome prepared = host_.run_script(settings() + std::string(kPrepareScript), Sink::keep);
  if (prepared.exit_code != 0) fail_with(prepared);
  const std::string tmp = answer(prepared.out, "greta-tmp");
  if (!tmp.starts_with('/')) fail("{}: TMPDIR there is {}, not an absolute path", host_.name(), quote(tmp));
  directory_ = fmt::format("{}/greta-remote.{}", tmp, random_token());
  if (answer(prepared.out, "greta-source") == "whole") return;
  fmt::print(stderr, "{}: sending source {} ({} files)\n", host_.name(), source_.hash, source_.files.size());
  host_.send_files(source_.root, source_.files, cache_);
}

void RemoteRun::build() {
  fmt::print(stderr, "{}: building, unless this source was built there before\n", host_.name());
  const Outcome built = host_.run_script(settings() + std::string(kBuildScript), Sink::keep);
  if (built.exit_code != 0) fail_with(built);
}

std::string RemoteRun::isolate_command() const {
  std::string command = R"("$HOME/$cache/build/release/greta" isolate)";
  if (job_.experiment_toml) command += " experiment.toml";
  if (!job_.model.empty()) command += R"( --model "$model")";
  if (job_.backend != "auto") command += " --backend " + shell_word(job_.backend);
  for (const std::string& argument : job_.isolate_args) command += " " + shell_word(argument);
  return command + " --out run";
}

int RemoteRun::run() {
  fmt::print(stderr, "{}: running\n", host_.name());
  const Outcome ran =
      host_.run_script(settings() + std::string(kRunBegin) + isolate_command() + std::string(kRunEnd), Sink::to_stderr);
  if (ran.exit_code != 0) fail_with(ran);
  const std::string code = answer(ran.out, "greta-exit");
  if (answer(ran.out, "greta-run") != "whole" || (code != "0" && code != "1" && code != "2"))
    fail("{}: greta isolate left no run there (exit code {}); its own message stands above", host_.name(), code);
  return code[0] - '0';
}

std::string RemoteRun::leave() { return std::exchange(directory_, ""); }

void RemoteRun::clean() {
  if (directory_.empty()) return;
  InterruptGuard::clear();  // after Ctrl-C there is this left to do; a second one ends it
  const std::string script = settings() + std::string(kCleanScript);
  leave();
  (void)host_.run_script(script, Sink::keep);
}

}  // namespace greta::cli
