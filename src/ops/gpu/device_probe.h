// The tap on a forward pass that runs on a device.
#pragma once

#include <cstdint>

#include "core/probe.h"
#include "core/site.h"
#include "ops/routes.h"

namespace greta::gpu {

/// What a session on a device lets an observer do beside its taps. Taps get views of device memory: the observer queues kernels
/// that read them, on the device's main stream, before they are overwritten.
class DeviceProbe : public Probe {
 public:
  enum class Mode : std::uint8_t {
    layer_by_layer,  // computed now; rows are overwritten two layers later: what reads them is queued at a layer's last tap
    whole,           // computed now; rows stay until the call ends
    captured,        // recorded into a graph, which runs later: nothing may be allocated or copied from the host
    replayed,  // nothing is queued but by graphs: one computes already, taps tell what its rows are, then the one runs that
               // tapped() was captured into. Its taps were as many, of the same views but for positions
  };
  struct Call {
    StepInfo step;
    const RouteTable& routes;
    Mode mode = Mode::whole;
    std::int64_t longest_row = 0;  // elements of the longest row that a captured call may see
  };
  bool wants_earlier_slots() const override { return false; }
  /// A forward call begins.
  virtual void begin(const Call& call) = 0;
  /// All taps of the call have come.
  virtual void tapped() = 0;
  /// The call has been computed and waited for; `logits` of its logit rows, on the host (none: they stayed on the device).
  virtual void end(const TensorView& logits) = 0;
  /// Changes when memory that was captured is no more.
  virtual std::uint64_t version() const = 0;
};

}  // namespace greta::gpu
