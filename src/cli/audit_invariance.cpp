// `greta audit invariance`: chunking, batch, threads, instruction set and the path on a GPU change no bit.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cli/aligned_run.h"
#include "cli/audit_verbs.h"
#include "cli/self_audit.h"
#include "core/error.h"

namespace greta::cli {
namespace {

/// One way to compute the base run's rows.
struct Variant {
  std::string kind, value;
  ArmSpec spec;
  bool decode_all = false;                     // all rows but the first are decode steps
  std::optional<ArmPath> path = std::nullopt;  // none: the one that inference takes
};

ArmPath path_of(const Variant& variant) { return variant.path.value_or(fastest_path(variant.spec)); }

/// Threads to try: 1, 2, 3, then twice as many each time, and all of the machine.
std::set<int> thread_counts() {
  const int all = default_threads();
  std::set<int> counts{1, 2, 3, all};
  for (int n = 4; n < all; n *= 2) counts.insert(n);
  return counts;
}

/// Rows a call of the prefill of n - 1 rows: the small ones, those around a tile of 64 rows, all but one, all (0).
std::set<int> chunk_sizes(std::int32_t n) {
  std::set<int> sizes{0, 1, 2, 3, 7, 16};
  for (const int size : {64, 65, n - 2})
    if (size > 0 && size < n - 1) sizes.insert(size);
  return sizes;
}

std::vector<Variant> variants(const ArmSpec& base, std::int32_t n) {
  std::vector<Variant> out;
  const auto add = [&](const char* kind, std::string value, const auto& change) {
    out.push_back({kind, std::move(value), base});
    change(out.back().spec);
  };
  for (const int chunk : chunk_sizes(n))
    add("chunk", chunk == 0 ? "all" : std::to_string(chunk), [&](ArmSpec& spec) { spec.chunk = chunk; });
  out.push_back({"decode", "all rows but the first", base, true});
  for (int batch = 1; batch <= 8; ++batch) add("batch", std::to_string(batch), [&](ArmSpec& spec) { spec.batch = batch; });
  const auto batch_of_3 = [&](const char* kind, const char* value, BatchOrder order, bool duplicates) {
    add(kind, value, [&](ArmSpec& spec) {
      spec.batch = 3;
      spec.order = order;
      spec.duplicates = duplicates;
    });
  };
  batch_of_3("order", "3, prompt last", BatchOrder::prompt_last, false);
  batch_of_3("order", "3, by sequence", BatchOrder::by_sequence, false);
  batch_of_3("duplicates", "3 of the prompt", BatchOrder::by_position, true);
  batch_of_3("duplicates", "3, by sequence", BatchOrder::by_sequence, true);
  for (const int threads : thread_counts())
    add("threads", std::to_string(threads), [&](ArmSpec& spec) { spec.threads = threads; });
  for (const Isa isa : supported_isas()) add("isa", std::string(name(isa)), [&](ArmSpec& spec) { spec.isa = isa; });
  if (fastest_path(base) == ArmPath::resident) out.push_back({"path", "op by op", base, false, ArmPath::observed});
  return out;
}

/// Whether the variant computes a prompt of n tokens in the base's own calls: a repeat, which is not what is asked.
bool as_base(const Variant& variant, const ArmSpec& base, std::int32_t n) {
  const auto rows = [n](const ArmSpec& spec) { return spec.chunk == 0 ? n - 1 : std::min(spec.chunk, n - 1); };
  const ArmSpec& spec = variant.spec;
  return rows(spec) == rows(base) && spec.batch == base.batch && spec.order == base.order &&
         spec.duplicates == base.duplicates && spec.threads == base.threads && spec.isa == base.isa &&
         !variant.path && (!variant.decode_all || n == 2);
}

bool changes_calls(const Variant& variant) {
  return variant.kind != "threads" && variant.kind != "isa" && variant.kind != "path";
}

/// The suspect's faults that the variant can have: one that needs a batch or chunks is planted where there are any.
class Plants {
 public:
  explicit Plants(const SelfAudit& audit) : audit_(audit), effects_(audit.suspect.faults.size()), reasons_(effects_.size()) {}

  ArmSpec planted(ArmSpec spec, std::vector<std::size_t>& numbers) {
    for (std::size_t f = 0; f < audit_.suspect.faults.size(); ++f) {
      ArmSpec with = spec;
      with.faults.push_back(audit_.suspect.faults[f]);
      try {
        check_faults(with, *audit_.model);
      } catch (const Error& error) {
        reasons_[f] = error.what();
        continue;
      }
      spec = std::move(with);
      numbers.push_back(f);
    }
    return spec;
  }
  void add(const std::vector<std::size_t>& numbers, const std::vector<std::int64_t>& effects) {
    for (std::size_t i = 0; i < numbers.size(); ++i) {
      effects_[numbers[i]] += effects[i];
      reasons_[numbers[i]].clear();
    }
  }
  /// Throws Error for a fault that no variant could have, or that changed nothing in all of them.
  void check() const {
    for (std::size_t f = 0; f < effects_.size(); ++f)
      if (effects_[f] == 0 && !reasons_[f].empty()) throw Error(reasons_[f]);
    refuse_idle_faults(audit_.suspect, effects_, "");
  }

 private:
  const SelfAudit& audit_;
  std::vector<std::int64_t> effects_;
  std::vector<std::string> reasons_;  // why the latest variants could not have it
};

int run(const SelfAuditFlags& flags) {
  const SelfAudit audit(flags);
  AuditTable table("invariance", {"prompt", "variant", "value", "calls", "rows", "differing", "first"});
  WeightHashes weights;
  Plants plants(audit);
  for (const AuditPrompt& prompt : audit_prompts(flags, *audit.model, table)) {
    const auto n = static_cast<std::int32_t>(prompt.tokens.size());
    const RecordedRun base =
        recorded_run(*audit.model, audit.healthy, prompt, 1, hashes_only(), weights, fastest_path(audit.healthy));
    for (Variant variant : variants(audit.healthy, n)) {
      std::vector<std::size_t> numbers;
      variant.spec = plants.planted(std::move(variant.spec), numbers);
      const RecordedRun other = recorded_run(*audit.model, variant.spec, prompt, variant.decode_all ? n - 1 : 1, hashes_only(),
                                             weights, path_of(variant));
      plants.add(numbers, other.effects);
      const RunDifference difference = run_difference(base.capture, other.capture);
      if (difference.compared == 0) table.cannot_tell(fmt::format("prompt {}: no rows were compared", prompt.id));
      const bool repeat = as_base(variant, audit.healthy, n);
      if (!repeat && changes_calls(variant) && other.capture.schedule == base.capture.schedule)
        table.cannot_tell(fmt::format("{} {} ran in the base's calls", variant.kind, variant.value));
      table.add({prompt.id, variant.kind, variant.value, repeat ? "as base" : "own", difference.compared, difference.differing,
                 difference.first.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(difference.first)},
                difference.finding());
    }
  }
  plants.check();
  table.note(fmt::format("base: chunk {}, batch {}, {} threads, {}, plan {}, KV {}; the last token decoded",
                         audit.healthy.chunk == 0 ? "all" : std::to_string(audit.healthy.chunk), audit.healthy.batch,
                         audit.healthy.threads, name(audit.healthy.isa), audit.healthy.plan.name, name(audit.healthy.plan.kv)));
  table.note("padding: the engine has none (a call's rows are those of its tokens, attention rows have no spare keys)");
  if (supported_isas().size() == 1) table.note("instruction sets: this machine has scalar alone");
  table.note("sequence 0, the prompt, is what is compared; companions differ from it unless they are duplicates");
  return table.finish(flags.json);
}

}  // namespace

void add_audit_invariance(CLI::App& audit, Program& program) {
  auto flags = std::make_shared<SelfAuditFlags>();
  auto* verb =
      audit.add_subcommand("invariance", "Chunking, batch, order, duplicates, threads, instruction set: the same bits");
  flags->add_to(*verb, true);
  verb->callback([flags, &program] { program.action = [flags] { return run(*flags); }; });
}

}  // namespace greta::cli
