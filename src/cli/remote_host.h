// Another machine, through the system's ssh and rsync and the user's own configuration and keys.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "cli/process.h"

namespace greta::cli {

/// `text` as one word of a POSIX shell.
std::string shell_word(std::string_view text);
/// A path on the remote machine as one word; a relative one, or one that begins with `~/`, is below the home directory there.
std::string shell_path(std::string_view path);

struct SshOptions {
  std::string config;                // ssh -F; empty: the user's own
  std::vector<std::string> options;  // ssh -o, before ours, so that they win
};

class RemoteHost {
 public:
  /// `host`: a name of ssh's, or user@host. Throws Error for what ssh could take as an option or a list.
  RemoteHost(std::string host, SshOptions options);

  const std::string& name() const { return host_; }

  /// Runs a POSIX shell script there, given on the stdin of `sh -s`, so that no login shell interprets it.
  /// Throws Error where the connection fails; else the script's exit code and what it wrote.
  Outcome run_script(const std::string& script, Sink err) const;
  /// Copies `files` of `local` to `remote` (a directory, relative to the home there). Throws Error.
  void send_files(const std::filesystem::path& local, const std::vector<std::string>& files, const std::string& remote) const;
  /// Copies the contents of the directory `remote` (absolute) into `local`. Throws Error.
  void fetch_directory(const std::string& remote, const std::filesystem::path& local) const;

 private:
  std::vector<std::string> ssh() const;
  std::vector<std::string> rsync() const;
  std::string rsync_place(const std::string& path) const;
  void check_rsync(const Outcome& outcome, std::string_view what) const;

  std::string host_;  // as ssh takes it
  SshOptions options_;
};

}  // namespace greta::cli
