// What every CPU route gets beside its operands.
#pragma once

#include "core/site.h"
#include "core/tensor.h"
#include "ops/cpu/thread_pool.h"
#include "ops/kv_view.h"
#include "ops/ops.h"
#include "ops/routes.h"

namespace greta {

struct CpuContext {
  ThreadPool& pool;
  Isa isa = Isa::scalar;  // of route `reference`; `float64` is plain C++
};

}  // namespace greta
