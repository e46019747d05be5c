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
}

}  // namespace greta::cli
