// `greta audit`: audits of one engine against itself.
#include "cli/audit_verbs.h"
#include "cli/verbs.h"

namespace greta::cli {

void add_audit(CLI::App& app, Program& program) {
  CLI::App* audit =
      app.add_subcommand("audit", "Hold one engine to what it claims: the same bits, its cache, weights, precision");
  audit->require_subcommand(0, 1);
  add_audit_run(*audit, program);
  add_audit_rmsnorm(*audit, program);
  add_audit_causes(*audit, program);
  add_audit_determinism(*audit, program);
  add_audit_invariance(*audit, program);
  add_audit_kv(*audit, program);
  add_audit_layout(*audit, program);
  add_audit_precision(*audit, program);
  add_audit_rope(*audit, program);
}

}  // namespace greta::cli
