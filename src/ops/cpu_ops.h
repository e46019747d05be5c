// The ops on the CPU: checks every call, then hands it to the route chosen for its op.
#pragma once

#include <memory>

#include "ops/cpu/thread_pool.h"
#include "ops/ops.h"
#include "ops/routes.h"

namespace greta {

struct CpuOpsOptions {
  RouteTable routes = {};  // until the first begin_step
  Isa isa = Isa::scalar;   // of route `reference`; best_isa() for the fastest
  ThreadPool& pool;        // outlives the ops
};

/// The widest instruction set of this machine.
inline Isa best_isa() { return supported_isas().back(); }

/// Calls take their token of each row (KV slots, keys 0..position) from OpSite::rows, which has an entry for every row. Throws
/// Error where the machine lacks `isa`; every op throws Error on operands whose shapes or types do not fit, and on token ids
/// outside the table.
std::unique_ptr<Ops> make_cpu_ops(const CpuOpsOptions& options);

}  // namespace greta
