// The ops on a GPU, over tensors of the host: every call takes its operands to the device, runs the kernels of its route, and
// brings the result back.
//
// So an arm on a GPU has the decorators, recorders, faults and judges of every other arm: they see each operand and each result
// as bytes of the host. The kernels are those of a device session (engine/device_session.h), with the same bits.
#pragma once

#include <memory>

#include "ops/gpu/device.h"
#include "ops/gpu/staging.h"
#include "ops/gpu/weight_store.h"
#include "ops/ops.h"

namespace greta::gpu {

/// A device with a model's weights, shared by the ops of several arms.
struct DeviceModel {
  std::unique_ptr<Device> device;
  std::unique_ptr<WeightStore> weights;  // released before the device
};

/// Lets a fault reach into the kernels and the transfers: every call from `plant` on runs with this error in it, until `none`
/// is planted.
class KernelFaults {
 public:
  virtual ~KernelFaults() = default;
  virtual void plant(KernelFault fault) = 0;
};
/// The same for the ways of operands to the device.
class TransferFaults {
 public:
  virtual ~TransferFaults() = default;
  virtual void plant(TransferFault fault) = 0;
};

/// The route that a matrix product of these operands takes where `chosen` is the plan's: `invariant` and `free` are `q8` for
/// blocks, and every route that does not take the operands is `reference`.
RouteId matmul_route(RouteId chosen, DType x, const WeightView& weight);

/// `model` outlives the ops. Calls are checked as make_cpu_ops() checks them; KV of f32, f16 and bf16. The result is also a
/// KernelFaults and a TransferFaults.
std::unique_ptr<Ops> make_bridge_ops(DeviceModel& model, const RouteTable& routes);

}  // namespace greta::gpu
