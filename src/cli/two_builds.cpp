#include "cli/two_builds.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <random>
#include <tuple>
#include <utility>
#include <vector>

#include "cli/command_line.h"
#include "cli/foreign.h"
#include "cli/paths.h"
#include "cli/process.h"
#include "core/error.h"
#include "core/quote.h"
#include "isolate/judge.h"
#include "report/json.h"
#include "report/markdown.h"
#include "report/text.h"
#include "report/tsv.h"
#include "trace/run_directory.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;

/// A directory that goes when it is left.
class Scratch {
 public:
  Scratch() : path_(fs::temp_directory_path() / fmt::format("greta-builds-{:08x}", std::random_device()())) {
    fs::create_directories(path_);
  }
  ~Scratch() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  const fs::path& path() const { return path_; }

 private:
  fs::path path_;
};

/// The arguments of the child's `isolate`: ours, with `arm` as its arm `which` and, without faults, as the other one.
std::vector<std::string> arguments_for(const Program& program, const fs::path& binary, ArmOptions arm, char which,
                                       const fs::path& out) {
  arm.binary.clear();
  ArmOptions other = arm;
  other.faults.clear();
  std::vector<std::string> argv{binary.string()};
  const std::vector<std::string> kept =
      arguments_without(program.arguments, {"--arm-a", "--arm-b", "--out", "--lang", "--fault"},
                        {"--json", "--git-bisect", "--no-bounds", "--trace-full"});
  argv.insert(argv.end(), kept.begin(), kept.end());
  argv.insert(argv.end(), {"--arm-a", (which == 'a' ? arm : other).text(), "--arm-b", (which == 'b' ? arm : other).text()});
  argv.insert(argv.end(), {"--no-bounds", "--out", out.string()});
  return argv;
}

/// One build's captures. Its own verdict does not matter here; that it wrote them does.
LoadedCaptures captures_of(const Program& program, const ArmOptions& arm, char which, const fs::path& out) {
  const fs::path binary = arm.binary.empty() ? executable() : fs::path(arm.binary);
  if (!fs::exists(binary)) fail("binary={}: there is no such file; name a build of greta", quote(binary.string()));
  const Outcome ran = run_command({.argv = arguments_for(program, binary, arm, which, out), .input = {}});
  if (!fs::exists(out))
    fail("binary={}: `isolate` ended with code {} and wrote no captures: {}", quote(binary.string()), ran.exit_code,
         last_line(ran.err));
  return load_traces(out.string(), {});
}

/// Throws Error where one build recorded a prompt that the other did not.
std::vector<isolate::PromptPair> pairs_of(const LoadedCaptures& a, const LoadedCaptures& b) {
  std::vector<isolate::PromptPair> pairs;
  const auto lacks = [](const LoadedCaptures& all, const std::string& id, auto arm) {
    return std::none_of(all.pairs.begin(), all.pairs.end(),
                        [&](const LoadedPair& pair) { return pair.prompt_id == id && (pair.*arm).has_value(); });
  };
  for (const auto& [all, others, arm, which] :
       {std::tuple(&a, &b, &LoadedPair::b, 'B'), std::tuple(&b, &a, &LoadedPair::a, 'A')})
    for (const LoadedPair& pair : all->pairs)
      if (lacks(*others, pair.prompt_id, arm))
        fail("prompt {}: the build of arm {} recorded none of it; give prompts that both take", quote(pair.prompt_id), which);
  for (const LoadedPair& left : a.pairs) {
    for (const LoadedPair& right : b.pairs) {
      if (left.prompt_id != right.prompt_id || !left.a || !right.b) continue;
      isolate::PromptPair pair;
      pair.a = *left.a;
      pair.b = *right.b;
      pairs.push_back(std::move(pair));
    }
  }
  return pairs;
}

bool same_file(const ArmOptions& a, const ArmOptions& b) {
  const auto path = [](const ArmOptions& arm) { return arm.binary.empty() ? executable() : fs::path(arm.binary); };
  std::error_code ignored;
  return fs::equivalent(path(a), path(b), ignored);
}

}  // namespace

bool names_a_build(const IsolateOptions& options) {
  return !parsed_arm("--arm-a", options.arm_a).binary.empty() || !parsed_arm("--arm-b", options.arm_b).binary.empty();
}

int isolate_two_builds(const IsolateOptions& options, const Program& program) {
  const auto language = report::language_from_name(options.lang);
  if (!language) fail("--lang {} is not known; use es, en or both", quote(options.lang));
  ArmOptions a = parsed_arm("--arm-a", options.arm_a), b = parsed_arm("--arm-b", options.arm_b);
  b.faults.insert(b.faults.end(), options.faults.begin(), options.faults.end());
  if (options.exp == "E0" || options.exp == "as_designed")
    fail("--exp {}: two builds are compared aligned (E1); mode E0 is measured, never judged", options.exp);
  const Scratch scratch;
  const LoadedCaptures left = captures_of(program, a, 'a', scratch.path() / "a");
  const LoadedCaptures right = captures_of(program, b, 'b', scratch.path() / "b");

  isolate::ExperimentSpec spec = experiment_of(left);
  spec.exp = isolate::ExpMode::aligned;
  isolate::RunInfo info;
  info.source = isolate::Source::compare;
  info.build = GRETA_VERSION;
  info.date = today();
  info.command = command_line(program.arguments, {"--out"}, {"--json"});
  info.next_base = command_line(program.arguments, {"--layers", "--stages", "--out"}, {"--json", "--git-bisect"});
  info.notes.push_back(fmt::format("arm A by {}, arm B by {}", a.binary.empty() ? "this build" : a.binary,
                                   b.binary.empty() ? "this build" : b.binary));
  if (same_file(a, b)) info.notes.push_back("both arms are computed by the same file: this compares a build with itself");
  const isolate::Outcome outcome = isolate::judge(pairs_of(left, right), spec, info);
  if (!options.out.empty()) {
    RunDirectory directory(RunDirectoryOptions{.out = options.out, .root = {}, .date = info.date, .experiment = spec.id});
    directory.write(fmt::format("{}_analysis.txt", spec.id), report::tsv(outcome));
    directory.write("verdict.json", report::verdict_json(outcome));
    directory.write("report.md", report::markdown(outcome, *language));
    directory.finish();
  }
  fmt::print(stderr, "{}", report::text(outcome));
  if (options.json) fmt::print("{}", report::verdict_json(outcome));
  return options.git_bisect ? isolate::git_bisect_code(outcome.verdict()) : outcome.exit_code();
}

}  // namespace greta::cli
