// `greta audit determinism`: the same run again and again gives the same bits.
#include <fmt/format.h>

#include <memory>

#include "cli/aligned_run.h"
#include "cli/audit_verbs.h"
#include "cli/checks.h"
#include "cli/self_audit.h"
#include "core/error.h"

namespace greta::cli {
namespace {

struct Options {
  SelfAuditFlags shared;
  int runs = 5;
};

/// Every repeat is an arm of its own: threads, cache and buffers are made anew.
int run(const Options& options) {
  const SelfAudit audit(options.shared);
  check_faults(audit.suspect, *audit.model);
  AuditTable table("determinism", {"prompt", "run", "rows", "differing", "first"});
  WeightHashes weights;
  std::vector<std::int64_t> effects(audit.suspect.faults.size());
  for (const AuditPrompt& prompt : audit_prompts(options.shared, *audit.model, table)) {
    const RecordedRun first = recorded_run(*audit.model, audit.healthy, prompt, 1, hashes_only(), weights);
    for (int i = 2; i <= options.runs; ++i) {
      const RecordedRun again = recorded_run(*audit.model, audit.suspect, prompt, 1, hashes_only(), weights);
      add_counts(effects, again.effects);
      const RunDifference difference = run_difference(first.capture, again.capture);
      if (difference.compared == 0) table.cannot_tell(fmt::format("prompt {}: no rows were compared", prompt.id));
      table.add({prompt.id, i, difference.compared, difference.differing,
                 difference.first.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(difference.first)},
                difference.finding());
    }
  }
  refuse_idle_faults(audit.suspect, effects, "");
  return table.finish(options.shared.json);
}

}  // namespace

void add_audit_determinism(CLI::App& audit, Program& program) {
  auto o = std::make_shared<Options>();
  auto* verb = audit.add_subcommand("determinism", "The same run N times: every stage and the logits keep their bits");
  o->shared.add_to(*verb, true);
  verb->add_option("--runs", o->runs, "Runs, the first included (default 5)")->check(CLI::Range(2, 1000));
  verb->callback([o, &program] { program.action = [o] { return run(*o); }; });
}

}  // namespace greta::cli
