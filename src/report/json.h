// verdict.json, schema 1 (docs/architecture.md, "Formats").
#pragma once

#include <string>

#include "isolate/outcome.h"

namespace greta::report {

/// Indented JSON with a trailing newline; `isolate --json` prints exactly this.
std::string verdict_json(const isolate::Outcome& outcome);

/// audit.json: what `greta audit DIR` prints again: `schema, verdict, bucket, cause`.
std::string audit_json(const isolate::Cause& cause);

}  // namespace greta::report
