// `greta audit kv`: what attention reads of the cache is what was written for that position, once, in its own slot.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "audit/slot_journal.h"
#include "cli/aligned_run.h"
#include "cli/audit_verbs.h"
#include "cli/checks.h"
#include "cli/self_audit.h"
#include "core/error.h"

namespace greta::cli {
namespace {

struct Options {
  SelfAuditFlags shared;
  int decodes = 4;
};

/// The journal of one prompt, a row a layer and part.
void judge(const AuditPrompt& prompt, const RecordedRun& run, int n_layers, AuditTable& table) {
  const auto n = static_cast<std::int32_t>(prompt.tokens.size());
  std::vector<audit::SlotJournal> journals;  // K and V of each layer
  for (int layer = 0; layer < n_layers; ++layer)
    for (const bool value : {false, true}) journals.emplace_back(value, layer);
  for (std::size_t i = 0; i < run.journal.size(); ++i) {
    const KvAccess& access = run.journal[i];
    audit::SlotAccess asked{.write = access.write,
                            .decode = access.phase == Phase::decode,
                            .call = access.call,
                            .step = access.step,
                            .position = access.position,
                            .last = access.last,
                            .reached = {},
                            .hash = access.hash};
    if (const auto& place = run.places[i])
      asked.reached = {place->part == KvPart::v, place->layer, place->token.seq, place->token.position};
    journals[static_cast<std::size_t>(access.layer) * 2 + (access.part == KvPart::v ? 1 : 0)].add(asked);
  }
  for (std::size_t i = 0; i < journals.size(); ++i) {
    const audit::SlotFindings found = journals[i].finish(n);
    const char* part = i % 2 == 0 ? "k" : "v";
    if (found.reads == 0) table.cannot_tell(fmt::format("{} of layer {} was never read", part, i / 2));
    table.add({prompt.id, i / 2, part, found.slots, found.writes, found.reads, found.unwritten, found.rewritten,
               found.misplaced, found.changed, found.miscounted},
              found.first);
  }
}

int run(const Options& options) {
  const SelfAudit audit(options.shared);
  check_faults(audit.suspect, *audit.model);
  AuditTable table("kv", {"prompt", "layer", "part", "slots", "writes", "reads", "unwritten", "rewritten", "misplaced",
                          "changed", "miscounted"});
  WeightHashes weights;
  std::vector<std::int64_t> effects(audit.suspect.faults.size());
  for (const AuditPrompt& prompt : audit_prompts(options.shared, *audit.model, table)) {
    const auto n = static_cast<std::int32_t>(prompt.tokens.size());
    RecorderOptions recorded = hashes_only();
    recorded.kv_journal = true;
    const std::int32_t decodes = std::min<std::int32_t>(options.decodes, n - 1);
    const RecordedRun run = recorded_run(*audit.model, audit.suspect, prompt, decodes, std::move(recorded), weights);
    add_counts(effects, run.effects);
    judge(prompt, run, audit.config().n_layers, table);
    table.note(fmt::format("prompt {}: {} positions, the last {} decoded", prompt.id, n, decodes));
  }
  refuse_idle_faults(audit.suspect, effects, "");
  return table.finish(options.shared.json);
}

}  // namespace

void add_audit_kv(CLI::App& audit, Program& program) {
  auto o = std::make_shared<Options>();
  auto* verb = audit.add_subcommand("kv", "The KV cache: what is read is what was written, each slot once");
  o->shared.add_to(*verb, true);
  verb->add_option("--decode", o->decodes, "Tokens at the prompt's end that are decoded one by one (default 4)")
      ->check(at_least(1));
  verb->callback([o, &program] { program.action = [o] { return run(*o); }; });
}

}  // namespace greta::cli
