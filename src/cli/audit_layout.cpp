// `greta audit layout`: every weight tensor is read as the file means it.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "cli/audit_verbs.h"
#include "cli/file_contract.h"
#include "cli/self_audit.h"
#include "cli/window_ops.h"
#include "core/error.h"
#include "engine/kv_cache.h"
#include "engine/session.h"

namespace greta::cli {
namespace {

constexpr const char* kRopeFactors = "rope_freqs.weight";

/// One forward call: every op of every layer is called with its weights.
void visit_all_weights(const SelfAudit& audit, Ops& ops) {
  const ModelConfig& c = audit.config();
  KvCache kv(audit.healthy.plan.kv, c.n_layers, 1, 1, std::int64_t{c.n_kv_heads} * c.head_dim);
  Session session(*audit.model, audit.healthy.plan, ops, kv);
  const std::int32_t tokens[] = {0}, wanted[] = {0};
  const RowId rows[] = {{0, 0}};
  session.step(Phase::prefill, {tokens, rows, wanted}, nullptr);
}

/// RoPE's factors are read when the model is loaded, and by no op as a tensor.
void add_rope_factors(const Model& model, const FileTensors& tensors, AuditTable& table) {
  const auto shape = tensors.find(kRopeFactors);
  if (!shape) return;
  std::vector<double> file(static_cast<std::size_t>(shape->cols));
  tensors.row(kRopeFactors, 0, file);
  const std::vector<float>& read = model.weights.rope_freq_factors;
  const bool same = std::equal(file.begin(), file.end(), read.begin(), read.end(),
                               [](double a, float b) { return a == static_cast<double>(b); });
  table.add({kRopeFactors, "q_rope k_rope", std::string(name(shape->dtype)), shape->rows, shape->cols, 1, 0.0},
            same ? "" : "the factors that RoPE is given are not those of the file");
}

int run(const SelfAuditFlags& flags) {
  const SelfAudit audit(flags);
  check_faults(audit.suspect, *audit.model);
  AuditTable table("layout", {"tensor", "read by", "type", "rows", "cols", "windows", "ratio"});
  const audit::ModelContract contract = contract_of(*audit.model);
  const FileTensors tensors(*audit.model->file);
  ArmOps healthy(*audit.model, audit.healthy, WindowOps::kRows), suspect(*audit.model, audit.suspect, WindowOps::kRows);
  WindowOps windows(healthy.ops(), suspect, audit.suspect.plan, {contract, tensors});
  visit_all_weights(audit, windows);
  refuse_idle_faults(audit.suspect, suspect.fault_effects(), "");

  std::set<std::string> read{kRopeFactors};
  bool all_zero = true;
  for (const WindowResult& result : windows.results()) {
    read.insert(result.tensor);
    all_zero = all_zero && result.all_zero;
    table.add({result.tensor, std::string(name(result.stage)), std::string(name(result.shape.dtype)), result.shape.rows,
               result.shape.cols, result.windows, number(result.ratio)},
              result.finding);
    if (result.all_zero) table.note(fmt::format("{}: zeros alone, so that nothing shows how it is read", result.tensor));
  }
  if (all_zero) table.cannot_tell("all tensors hold zeros alone, which any reading gives");
  add_rope_factors(*audit.model, tensors, table);
  for (const GgufTensor& tensor : audit.model->file->tensors())
    if (!read.contains(tensor.name)) table.note(fmt::format("{}: no op reads it", tensor.name));
  return table.finish(flags.json);
}

}  // namespace

void add_audit_layout(CLI::App& audit, Program& program) {
  auto flags = std::make_shared<SelfAuditFlags>();
  auto* verb = audit.add_subcommand("layout", "Every weight tensor is read as the file means it: rows, columns, blocks, tails");
  flags->add_to(*verb, false);
  verb->callback([flags, &program] { program.action = [flags] { return run(*flags); }; });
}

}  // namespace greta::cli
