// `greta remote`: an experiment on another machine, its run brought back. Copies the source there, builds it if this source was
// not built there before, runs `greta isolate` in a temporary directory, fetches the run and removes that directory.
// Nothing else there is touched: no package is installed, no process is ended but our own.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <ctime>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "cli/paths.h"
#include "cli/process.h"
#include "cli/remote_run.h"
#include "cli/source_tree.h"
#include "cli/verbs.h"
#include "core/error.h"
#include "core/quote.h"
#include "isolate/experiment.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string host, experiment;
  std::string out = "artifacts_remote";
  std::string date;
  SshOptions ssh;
  RemoteJob job;
  bool dry_run = false;
};

std::string today() {
  const std::time_t now = std::time(nullptr);
  std::tm local{};
  localtime_r(&now, &local);
  return fmt::format("{:04}-{:02}-{:02}", local.tm_year + 1900, local.tm_mon + 1, local.tm_mday);
}

void check_date(const std::string& date) {
  const auto allowed = [](unsigned char c) { return std::isalnum(c) != 0 || c == '.' || c == '_' || c == '-'; };
  if (date.empty() || date.front() == '.' || date.front() == '-' || !std::all_of(date.begin(), date.end(), allowed))
    fail("date {} names a directory: letters, digits, '.', '_' and '-', beginning with a letter or digit", quote(date));
}

std::string read_file(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream text;
  if (!in || !(text << in.rdbuf())) fail("{}: cannot be read", path.string());
  return text.str();
}

/// What is run there: the built-in experiment, or a TOML file of this machine.
struct Experiment {
  std::string id;
  std::optional<std::string> toml;
};

Experiment find_experiment(const std::string& name) {
  if (name == isolate::builtin_experiment().id) return {name, std::nullopt};
  if (!name.ends_with(".toml"))
    fail("experiment {} is not known; use {} or a .toml file", quote(name), isolate::builtin_experiment().id);
  return {isolate::load_experiment(name).id, read_file(name)};
}

/// The directory that is made under a name that no reader takes for a run, and renamed when whole.
class Destination {
 public:
  Destination(const fs::path& base, const std::string& date, const std::string& id)
      : final_(base / date / id),
        work_(base / date / fmt::format("{}.{}.incomplete", id, random_token())),
        run_(fs::path("root/gretacore/artifacts/alignment") / date) {
    std::error_code ignored;
    if (fs::exists(fs::symlink_status(final_, ignored)))
      fail("{} exists already and is not overwritten; give another date or --out", final_.string());
  }
  ~Destination() {
    if (!made_) return;
    std::error_code ignored;
    fs::remove_all(work_, ignored);
    for (const fs::path& parent : new_parents_) fs::remove(parent, ignored);  // only where empty
  }
  Destination(const Destination&) = delete;
  Destination& operator=(const Destination&) = delete;

  /// Makes the work directory; returns where the run's files go.
  fs::path make() {
    std::error_code error;
    for (fs::path parent = work_.parent_path(); !parent.empty() && !fs::exists(parent, error); parent = parent.parent_path())
      new_parents_.push_back(parent);
    made_ = true;
    if (fs::create_directories(work_ / run_, error); error) fail("{}: {}", (work_ / run_).string(), error.message());
    return work_ / run_;
  }
  fs::path work() const { return work_; }
  fs::path run() const { return final_ / run_; }
  fs::path final_place() const { return final_; }

  void keep() {
    std::error_code error;
    fs::rename(work_, final_, error);
    if (error) fail("{}: {}; was it made meanwhile?", final_.string(), error.message());
    made_ = false;
  }

 private:
  fs::path final_, work_, run_;
  std::vector<fs::path> new_parents_;
  bool made_ = false;
};

/// The table of the fetched run, made here. `analyze` gives a verdict's exit code; whether it worked shows in the file.
void analyze(const fs::path& run, const fs::path& out) {
  const Outcome analyzed = run_command(
      {{executable().string(), "analyze", "--dir", run.string(), "--out", out.string()}, "", Sink::keep, Sink::keep});
  if (!fs::exists(out)) fail("greta analyze of the fetched run: {}", last_line(analyzed.err));
}

int remote(const Options& options) {
  const std::string date = options.date.empty() ? today() : options.date;
  check_date(date);
  const Experiment experiment = find_experiment(options.experiment);
  Destination destination(options.out, date, experiment.id);
  const SourceTree source = read_source_tree(source_dir());
  if (options.dry_run) {
    fmt::print("source {} ({} files)\nremote ~/.cache/greta/src-{}\nlocal {}\n", source.hash, source.files.size(), source.hash,
               destination.run().string());
    return static_cast<int>(ExitCode::ok);
  }

  RemoteJob job = options.job;
  job.experiment_toml = experiment.toml;
  RemoteRun run(RemoteHost(options.host, options.ssh), job, source);
  run.prepare();
  run.build();
  const int verdict = run.run();
  const fs::path into = destination.make();
  try {
    run.fetch(into);
  } catch (const Error& error) {
    fail("{}; the run stays in {} on {}", error.what(), run.leave(), options.host);
  }
  analyze(into, destination.work() / (experiment.id + "_analysis.txt"));
  destination.keep();
  run.clean();
  fmt::print("exit code of greta isolate on {}: {}\nrun: {}\ntable: {}\n", options.host, verdict, destination.run().string(),
             (destination.final_place() / (experiment.id + "_analysis.txt")).string());
  return verdict;
}

}  // namespace

void add_remote(CLI::App& app, Program& program) {
  auto* verb =
      app.add_subcommand("remote", "Run an experiment on another machine through ssh and rsync, and bring the run back");
  auto options = std::make_shared<Options>();
  verb->add_option("host", options->host, "As ssh takes it: a name, an address or user@host")->required();
  verb->add_option("experiment", options->experiment, "b3_41, or a .toml file of this machine (self-contained)")->required();
  verb->add_option("--model", options->job.model, "Path on the remote machine; the demo model by default");
  verb->add_option("--backend", options->job.backend, "auto, or a backend's name")->capture_default_str();
  verb->add_option("--out", options->out, "Runs go to OUT/DATE/EXPERIMENT/")->capture_default_str();
  verb->add_option("--date", options->date, "Names the run's directory; today by default");
  verb->add_option("-F", options->ssh.config, "ssh configuration file instead of the user's own");
  verb->add_option("--ssh-option", options->ssh.options, "KEY=VALUE as for ssh -o; may be repeated")->allow_extra_args(false);
  verb->add_flag("--dry-run", options->dry_run, "Say what the source's hash is and where everything would go");
  verb->add_option("isolate-args", options->job.isolate_args,
                   "After --: more options of greta isolate there, for example -- --fault b3_41");
  verb->callback([&program, options] {
    program.action = [options] {
      InterruptGuard guard;
      try {
        return remote(*options);
      } catch (const Interrupted&) {
        fmt::print(stderr, "greta: interrupted\n");
        return static_cast<int>(ExitCode::interrupted);
      }
    };
  });
}

}  // namespace greta::cli
