// One `greta isolate` on another machine: send the source, build it once, run in a temporary directory, bring back, clean up.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "cli/remote_host.h"
#include "cli/source_tree.h"

namespace greta::cli {

struct RemoteJob {
  std::optional<std::string> experiment_toml;  // nullopt: the built-in experiment
  std::string model;                           // path there; empty: the demo model that travels with the source
  std::string backend = "auto";
  std::vector<std::string> isolate_args;  // more options of greta isolate
};

/// 16 hexadecimal digits for a directory's name.
std::string random_token();

/// The steps in their order; each throws Error, one line, naming the host. The destructor cleans up.
class RemoteRun {
 public:
  RemoteRun(RemoteHost host, RemoteJob job, const SourceTree& source);
  ~RemoteRun();
  RemoteRun(const RemoteRun&) = delete;
  RemoteRun& operator=(const RemoteRun&) = delete;

  /// Checks the model there and sends the source to ~/.cache/greta/src-HASH, unless it is there whole.
  void prepare();
  /// Builds there, unless this source was. Installs nothing: missing packages are an error that names the command.
  void build();
  /// Exit code of greta isolate there: a verdict's. Throws Error where it left no run.
  int run();
  void fetch(const std::filesystem::path& into) const { host_.fetch_directory(directory_ + "/run", into); }
  /// Removes the temporary directory; ends our own greta in it, should it still run.
  void clean();
  /// The temporary directory stays there, for a fetch by hand; returns its path.
  std::string leave();

 private:
  std::string settings() const;
  std::string isolate_command() const;
  [[noreturn]] void fail_with(const Outcome& outcome) const;

  RemoteHost host_;
  RemoteJob job_;
  const SourceTree& source_;
  std::string cache_;      // of this source, relative to the home there
  std::string directory_;  // temporary, absolute, ours alone; empty: none
};

}  // namespace greta::cli
