// Which kernel computes a matrix product.
#include "core/dtype.h"
#include "ops/gpu/kernels/table.h"

namespace greta::gpu::GRETA_GPU_TARGET {
namespace {

/// As q8::multiplies_integers() on the CPU: products of other operands are route `reference`'s.
bool multiplies_integers(const MatmulArgs& args) {
  return args.x.dtype == DType::q8_f32 && is_block_type(args.weight.dtype) && !args.weight.transposed;
}
bool is_half(DType dtype) { return dtype == DType::f16 || dtype == DType::bf16; }

enum class Kernel { reference, q8, invariant, free };

Kernel choose(const MatmulArgs& args) {
  if (args.route == RouteId::reference) return Kernel::reference;
  if (multiplies_integers(args)) return Kernel::q8;
  if (args.route == RouteId::q8 || !is_half(args.x.dtype)) return Kernel::reference;
  return args.route == RouteId::free ? Kernel::free : Kernel::invariant;
}

}  // namespace

void matmul(Stream stream, const MatmulArgs& args) {
  switch (choose(args)) {
    case Kernel::q8:
      return matmul_q8(stream, args);
    case Kernel::invariant:
      return matmul_invariant(stream, args);
    case Kernel::free:
      return matmul_free(stream, args);
    default:
      return matmul_reference(stream, args);
  }
}

std::size_t matmul_scratch(const MatmulArgs& args) {
  switch (choose(args)) {
    case Kernel::q8:
      return matmul_q8_scratch(args);
    case Kernel::invariant:
      return matmul_invariant_scratch(args);
    case Kernel::free:
      return matmul_free_scratch(args);
    default:
      return 0;
  }
}

}  // namespace greta::gpu::GRETA_GPU_TARGET
