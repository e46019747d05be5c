// What kernels say of operands that they do not take. Apart from them: compilers of kernels do not compile fmt.
#pragma once

#include "ops/gpu/kernels.h"

namespace greta::gpu {

/// Throws Error: route, types of x and weight, fault, and what this route takes.
[[noreturn]] void refuse_matmul(const MatmulArgs& args);

}  // namespace greta::gpu
