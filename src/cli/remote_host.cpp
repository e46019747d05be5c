#include "cli/remote_host.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "core/quote.h"

namespace greta::cli {
namespace {

constexpr int kSshFailed = 255;  // ssh's own failures; a command's exit codes are below it

/// One word of rsync's `-e` command: quoted, a quote within doubled (rsync(1), --rsh).
std::string rsync_word(const std::string& word) {
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? std::string("''") : std::string(1, c);
  return quoted + "'";
}

}  // namespace

std::string shell_word(std::string_view text) {
  std::string word = "'";
  for (const char c : text) word += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return word + "'";
}

std::string shell_path(std::string_view path) {
  if (path.empty() || path.starts_with('/')) return shell_word(path);
  return "\"$HOME\"/" + shell_word(path.starts_with("~/") ? path.substr(2) : path);
}

RemoteHost::RemoteHost(std::string host, SshOptions options) : host_(std::move(host)), options_(std::move(options)) {
  const auto at = host_.rfind('@');
  std::string machine = at == std::string::npos ? host_ : host_.substr(at + 1);
  if (machine.size() > 2 && machine.front() == '[' && machine.back() == ']') {  // ssh wants a bare IPv6 address
    machine = machine.substr(1, machine.size() - 2);
    host_ = (at == std::string::npos ? "" : host_.substr(0, at + 1)) + machine;
  }
  const auto unsafe = [](unsigned char c) { return c <= ' ' || c == 0x7f || c == '\'' || c == '"' || c == '/'; };
  if (machine.empty() || machine.front() == '-' || host_.front() == '-' || host_.front() == '@' ||
      std::any_of(host_.begin(), host_.end(), unsafe))
    fail("{} is no host; give a name or address that ssh knows, or user@host", quote(host_));
}

std::vector<std::string> RemoteHost::ssh() const {
  std::vector<std::string> argv{"ssh"};
  if (!options_.config.empty()) argv.insert(argv.end(), {"-F", options_.config});
  for (const std::string& option : options_.options) argv.insert(argv.end(), {"-o", option});
  // A host that does not answer, now or later, must end in an error, not in waiting.
  argv.insert(argv.end(), {"-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"});
  return argv;
}

std::vector<std::string> RemoteHost::rsync() const {
  std::string shell;
  for (const std::string& word : ssh()) shell += (shell.empty() ? "" : " ") + rsync_word(word);
  return {"rsync", "--recursive", "--times", "--compress", "--protect-args", "--rsh=" + shell};
}

std::string RemoteHost::rsync_place(const std::string& path) const {
  const auto at = host_.rfind('@');
  const std::size_t begin = at == std::string::npos ? 0 : at + 1;
  if (host_.find(':', begin) == std::string::npos) return host_ + ":" + path;
  return host_.substr(0, begin) + "[" + host_.substr(begin) + "]:" + path;
}

Outcome RemoteHost::run_script(const std::string& script, Sink err) const {
  Command command{ssh(), script, Sink::keep, err};
  command.argv.insert(command.argv.end(), {"-T", "--", host_, "exec sh -s"});
  Outcome outcome = run_command(command);
  if (outcome.exit_code == kSshFailed) {
    const std::string why = last_line(outcome.err);
    fail("{}: the connection failed: {}; try: ssh {} true", host_, why.empty() ? "ssh ended without a word" : why, host_);
  }
  return outcome;
}

void RemoteHost::check_rsync(const Outcome& outcome, std::string_view what) const {
  if (outcome.exit_code == 0) return;
  // rsync's own last line only says where in rsync it failed; the first line says what.
  const std::string why = outcome.err.substr(0, outcome.err.find('\n'));
  fail("{}: {} failed: {} (rsync exit code {})", host_, what, why.empty() ? "rsync ended without a word" : why,
       outcome.exit_code);
}

void RemoteHost::send_files(const std::filesystem::path& local, const std::vector<std::string>& files,
                            const std::string& remote) const {
  Command command{rsync(), "", Sink::keep, Sink::keep};
  for (const std::string& file : files) command.input.append(file).push_back('\0');
  command.argv.insert(command.argv.end(), {"--links", "--perms", "--files-from=-", "--from0", "--",
                                           std::filesystem::absolute(local).string() + "/", rsync_place(remote + "/")});
  check_rsync(run_command(command), "sending the source");
}

void RemoteHost::fetch_directory(const std::string& remote, const std::filesystem::path& local) const {
  Command command{rsync(), "", Sink::keep, Sink::keep};  // no --links: a run holds none, and one could point anywhere
  command.argv.insert(command.argv.end(), {"--", rsync_place(remote + "/"), std::filesystem::absolute(local).string() + "/"});
  check_rsync(run_command(command), "fetching the run");
}

}  // namespace greta::cli
