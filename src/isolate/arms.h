// Did the arms run as they were asked to, and do they differ at all? A comparison of a run with itself always agrees.
#pragma once

#include <optional>
#include <string>

#include "isolate/outcome.h"

namespace greta::isolate {

/// What an arm recorded that was not asked of it: schedule, backend, plan, build, threads, KV type, routes.
std::optional<std::string> not_as_declared(const PromptPair& pair, const RunInfo& run);

/// Mode E1 of one engine's prefill against decode, for captures of ours: decode0 must be a decode step that read at least n-1
/// KV slots written in earlier steps. Returns what is wrong.
std::optional<std::string> decode_without_history(const PromptPair& pair);

/// Equal in everything recorded: schedule, phase of decode0's row, backend, plan, routes, build, host, threads.
bool same_description(const PromptPair& pair);

/// Bit-equality is claimed where both arms are ours, of one build, plan, KV type and routes, and the plan fixes the order of
/// every sum: `reference` and `q8` on any backend, `float64` on one, `invariant` on one kind of device; never with a route
/// `free`.
bool claims_bit_equality(const Capture& a, const Capture& b);

ArmOutcome describe_arm(const std::vector<PromptPair>& pairs, bool arm_b);

}  // namespace greta::isolate
