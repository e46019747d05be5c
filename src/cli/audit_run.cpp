// `greta audit DIR`: the search for the cause again, from what a run kept, without running an arm.
#include <fmt/format.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "cli/audit_verbs.h"
#include "cli/foreign.h"
#include "cli/scene_files.h"
#include "cli/scene_model.h"
#include "core/error.h"
#include "isolate/verdict.h"
#include "report/json.h"
#include "report/text.h"
#include "trace/run_directory.h"

namespace greta::cli {
namespace {

namespace fs = std::filesystem;

struct Options {
  std::string dir, model;
  bool json = false;
};

isolate::Cause search(const Options& options) {
  const fs::path directory = options.dir;
  refuse_incomplete(directory);
  if (!fs::is_directory(directory)) fail("{}: is no directory; give the directory of a run", directory.string());
  if (is_run_directory(directory)) (void)verify_run_directory(directory);
  const std::vector<StoredScene> stored = read_scenes(directory);
  if (stored.empty()) {
    const auto verdict = verdict_written(directory);
    if (verdict == isolate::Verdict::agree) return {};
    fail("{}: holds no operands of a guilty op (audit/*.json); {}", directory.string(),
         verdict ? fmt::format("its verdict is {}, and only DIVERGED runs of isolate without --no-bounds keep them",
                               isolate::name(*verdict))
                 : "run greta isolate again, which keeps them where arms diverge");
  }
  SceneModels models(directory, options.model);
  std::vector<SearchedScene> searched;
  for (const StoredScene& one : stored) {
    std::string missing;
    std::vector<audit::Explained> found = search_scene(one.scene, models.file(one), missing);
    if (!missing.empty()) fail("{}: prompt {}: an operand is missing: {}", directory.string(), one.scene.at.prompt, missing);
    searched.push_back({one.scene, std::move(found), {}});
  }
  return combined(searched);
}

int run(const Options& options) {
  const isolate::Cause cause = search(options);
  if (options.json) {
    fmt::print("{}", report::audit_json(cause));
  } else {
    fmt::print("{}", report::audit_text(cause));
  }
  return cause.state == isolate::CauseState::none ? 0 : 1;
}

}  // namespace

void add_audit_run(CLI::App& audit, Program& program) {
  auto o = std::make_shared<Options>();
  CLI::Option* dir =
      audit.add_option("dir", o->dir, "A run directory: searches the cause of its divergence again, without running an arm");
  audit.add_option("--model", o->model, "Model file of the run, where it is no longer at its place");
  audit.add_flag("--json", o->json, "Print audit.json on stdout");
  audit.callback([&audit, o, dir, &program] {
    if (!audit.get_subcommands().empty()) return;
    if (dir->count() == 0) throw CLI::RequiredError("a run directory or the name of an audit");
    program.action = [o] { return run(*o); };
  });
}

}  // namespace greta::cli
