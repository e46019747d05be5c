#include "cli/repeat_check.h"

#include <fmt/format.h>

#include "cli/arm_ops.h"
#include "cli/self_audit.h"

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
  AuditPrompt prompt;    // the tokens that it computed in the calls that are repeated
  std::int32_t decodes;  // the last of them
};

std::optional<isolate::Unstable> differs(const Repeated& arm, const Capture& again, std::string_view how) {
  const RunDifference difference = run_difference(arm.recorded, again);
  if (!difference.row) return std::nullopt;
  return isolate::Unstable{arm.arm, *difference.row,
                           fmt::format("{} of {} rows have other bits {}", difference.differing, difference.compared, how)};
}

std::optional<isolate::Unstable> repeat(const Repeated& arm, WeightHashes& weights, int repeats,
                                        std::vector<std::int64_t>& effects) {
  if (fastest_path(arm.spec) == ArmPath::resident) {
    const RecordedRun again =
        recorded_run(arm.model, arm.spec, arm.prompt, arm.decodes, hashes_only(), weights, ArmPath::resident);
    if (auto found = differs(arm, again.capture, "when all of it stays on the device")) return found;
  }
  gpu::Device& device = *device_model(arm.spec, arm.model).device;
  for (int i = 1; i <= repeats; ++i) {
    const Jitter jitter(device, static_cast<std::uint64_t>(i));
    const RecordedRun again = recorded_run(arm.model, arm.spec, arm.prompt, arm.decodes, hashes_only(), weights);
    add_counts(effects, again.effects);
    if (auto found = differs(arm, again.capture, fmt::format("in repeat {}, with another timing", i))) return found;
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
  const Repeated arms[]{{'a', context.model_a, context.arm_a, pair.a, {pair.a.prompt_id, prompt, n}, 0},
                        {'b', context.model_b, context.arm_b, pair.b, {pair.b.prompt_id, tokens, n}, n_all - (n - 1)}};
  for (const Repeated& arm : arms) {
    if (arm.spec.plan.target != Target::gpu) continue;
    out.unstable = repeat(arm, context.weights, repeats, arm.arm == 'a' ? out.effects_a : out.effects_b);
    if (out.unstable) return out;
  }
  return out;
}

}  // namespace greta::cli
