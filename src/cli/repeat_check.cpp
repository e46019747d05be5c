#include "cli/repeat_check.h"

#include <fmt/format.h>

#include "cli/arm_ops.h"
#include "cli/self_audit.h"
#include "isolate/repeated.h"

namespace greta::cli {
namespace {

/// Disturbs a device's timing as long as it lives.
class Jitter {
 public:
  Jitter(gpu::Device& device, std::uint64_t seed) : device_(device) { device_.jitter(seed); }
  ~Jitter() { device_.jitter(0); }
  Jitter(const Jitter&) = delete;
  Jitter& operator=(const Jitter&) = delete;

 private:
  gpu::Device& device_;
};

/// One arm of the pair.
struct Repeated {
  char arm;
  const Model& model;
  const ArmSpec& spec;
  const Capture& recorded;
  AuditPrompt prompt;        // the tokens that it computed in the calls that are repeated
  std::int32_t decodes;      // the last of them
  std::int32_t logits_from;  // of the prefill, as in the recorded run: a library may take another kernel for more rows
};

std::optional<isolate::Unstable> differs(const Repeated& arm, const Capture& again, std::string_view how) {
  return isolate::first_other_row(arm.recorded, again, static_cast<std::int32_t>(arm.prompt.tokens.size()), arm.arm, how);
}

std::optional<isolate::Unstable> repeat(const Repeated& arm, WeightHashes& weights, int repeats,
                                        std::vector<std::int64_t>& effects) {
  const auto run = [&](ArmPath path) {
    return recorded_run(arm.model, arm.spec, arm.prompt, arm.decodes, hashes_only(), weights, path, arm.logits_from);
  };
  const bool resident = fastest_path(arm.spec) == ArmPath::resident;
  if (resident)
    if (auto found = differs(arm, run(ArmPath::resident).capture, "when all of it stays on the device")) return found;
  gpu::Device& device = *device_model(arm.spec, arm.model).device;
  for (int i = 1; i <= repeats; ++i) {
    const Jitter jitter(device, static_cast<std::uint64_t>(i));
    const RecordedRun again = run(ArmPath::observed);
    add_counts(effects, again.effects);
    if (auto found = differs(arm, again.capture, fmt::format("in repeat {}, with another timing", i))) return found;
    if (!resident) continue;
    const std::string how = fmt::format("in repeat {}, with another timing and all of it on the device", i);
    if (auto found = differs(arm, run(ArmPath::resident).capture, how)) return found;
  }
  return std::nullopt;
}

}  // namespace

Repeats repeat_check(const RunContext& context, const isolate::PromptPair& pair, int repeats) {
  Repeats out;
  out.effects_a.resize(context.arm_a.faults.size());
  out.effects_b.resize(context.arm_b.faults.size());
  if (context.experiment.exp != isolate::ExpMode::aligned || context.experiment.shift) return out;
  const std::vector<std::int32_t>& tokens = pair.b.tokens;
  const std::int32_t n = pair.b.n_prompt, n_all = static_cast<std::int32_t>(tokens.size());
  if (n < 2) return out;
  const std::vector<std::int32_t> prompt(tokens.begin(), tokens.begin() + n);
  const Repeated arms[]{{'a', context.model_a, context.arm_a, pair.a, {pair.a.prompt_id, prompt, n}, 0, n - 1},
                        {'b', context.model_b, context.arm_b, pair.b, {pair.b.prompt_id, tokens, n}, n_all - (n - 1), n_all}};
  for (const Repeated& arm : arms) {
    if (arm.spec.plan.target != Target::gpu) continue;
    out.unstable = repeat(arm, context.weights, repeats, arm.arm == 'a' ? out.effects_a : out.effects_b);
    if (out.unstable) return out;
  }
  return out;
}

}  // namespace greta::cli
