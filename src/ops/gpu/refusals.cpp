#include "ops/gpu/refusals.h"

#include "core/error.h"

namespace greta::gpu {
namespace {

std::string_view fault_name(KernelFault fault) {
  switch (fault) {
    case KernelFault::none:
      return "none";
    case KernelFault::missing_barrier:
      return "missing_barrier";
    case KernelFault::f16_accumulation:
      return "f16_accumulation";
    case KernelFault::wrong_wave_size:
      return "wrong_wave_size";
    case KernelFault::unread_padding:
      return "unread_padding";
    case KernelFault::merge_stride:
      return "merge_stride";
    case KernelFault::narrow_position:
      return "narrow_position";
  }
  return "unknown";
}

std::string_view takes(RouteId route) {
  if (route == RouteId::invariant)
    return "f16 or bf16 of both, row-major; faults missing_barrier, f16_accumulation, unread_padding, merge_stride";
  if (route == RouteId::q8) return "q8_f32 and a row-major weight of blocks; faults f16_accumulation, wrong_wave_size";
  return "another route";
}

}  // namespace

void refuse_matmul(const MatmulArgs& args) {
  fail("GPU kernel 'matmul' of route {}: x of {}, weight of {}{}, fault {}; wanted {}", name(args.route), name(args.x.dtype),
       name(args.weight.dtype), args.weight.transposed ? ", transposed" : "", fault_name(args.fault), takes(args.route));
}

}  // namespace greta::gpu
