// The audits of `greta audit`, one file each.
#pragma once

#include <CLI/CLI.hpp>

#include "cli/verbs.h"

namespace greta::cli {

void add_audit_causes(CLI::App& audit, Program& program);
void add_audit_run(CLI::App& audit, Program& program);
void add_audit_rmsnorm(CLI::App& audit, Program& program);
void add_audit_determinism(CLI::App& audit, Program& program);
void add_audit_invariance(CLI::App& audit, Program& program);
void add_audit_kv(CLI::App& audit, Program& program);
void add_audit_layout(CLI::App& audit, Program& program);
void add_audit_precision(CLI::App& audit, Program& program);
void add_audit_rope(CLI::App& audit, Program& program);

}  // namespace greta::cli
