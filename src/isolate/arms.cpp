#include "isolate/arms.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "isolate/align.h"

namespace greta::isolate {
namespace {

std::optional<DType> kv_type(const Capture& capture) {
  for (const StageRecord& record : capture.records)
    if (record.stage == Stage::k_cache && record.dtype) return record.dtype;
  return std::nullopt;
}

std::optional<Phase> phase_at(const Capture& capture, std::int32_t position) {
  for (const StageRecord& record : capture.records)
    if (record.position == position && !record.reread) return record.phase;
  return std::nullopt;
}

std::optional<std::string> wrong(char arm, std::string_view what, std::string_view asked, std::string_view got) {
  if (asked.empty() || asked == got) return std::nullopt;
  return fmt::format("arm {} was asked for {} {}, and recorded {}", arm, what, asked, got.empty() ? "none" : got);
}

std::optional<std::string> wrong_arm(char arm, const DeclaredArm& asked, const std::vector<std::int32_t>& schedule,
                                     const Capture& got) {
  if (!schedule.empty() && schedule != got.schedule)
    return fmt::format("arm {} was asked for forward calls of {} rows, and ran {}", arm, schedule, got.schedule);
  if (auto text = wrong(arm, "backend", asked.backend, got.backend)) return text;
  if (auto text = wrong(arm, "plan", asked.plan, got.plan)) return text;
  if (auto text = wrong(arm, "build", asked.build, got.build)) return text;
  if (asked.threads > 0 && got.threads != asked.threads)
    return fmt::format("arm {} was asked for {} threads, and ran {}", arm, asked.threads, got.threads);
  if (const auto type = kv_type(got); type)
    if (auto text = wrong(arm, "KV type", asked.kv, name(*type))) return text;
  for (const auto& route : asked.routes)
    if (std::find(got.routes.begin(), got.routes.end(), route) == got.routes.end())
      return fmt::format("arm {} was asked for route {} of {}, and did not take it", arm, route.second, route.first);
  return std::nullopt;
}

}  // namespace

std::optional<std::string> not_as_declared(const PromptPair& pair, const RunInfo& run) {
  if (auto text = wrong_arm('A', run.a, pair.declared_schedule_a, pair.a)) return text;
  return wrong_arm('B', run.b, pair.declared_schedule_b, pair.b);
}

std::optional<std::string> decode_without_history(const PromptPair& pair) {
  if (pair.b.foreign || pair.b.n_prompt <= 0) return std::nullopt;
  const std::int32_t last = pair.b.n_prompt - 1;
  if (const auto phase = phase_at(pair.b, last); phase && *phase != Phase::decode)
    return fmt::format("arm B computed position {} in a prefill", last);
  if (pair.b.kv_slots_read_from_earlier_steps < last)
    return fmt::format("decode0 read {} KV slots written in earlier steps, {} were to be read",
                       pair.b.kv_slots_read_from_earlier_steps, last);
  return std::nullopt;
}

bool same_description(const PromptPair& pair) {
  const Capture& a = pair.a;
  const Capture& b = pair.b;
  const std::int32_t last = last_prompt_position(a, b);
  return a.schedule == b.schedule && phase_at(a, last) == phase_at(b, last) && a.backend == b.backend && a.plan == b.plan &&
         a.routes == b.routes && a.build == b.build && a.host == b.host && a.device == b.device && a.threads == b.threads &&
         a.fault_planted == b.fault_planted;
}

bool claims_bit_equality(const Capture& a, const Capture& b) {
  if (a.foreign || b.foreign || a.plan != b.plan || a.build != b.build || a.routes != b.routes || kv_type(a) != kv_type(b))
    return false;
  for (const auto& [op, route] : a.routes)
    if (route == "free") return false;                       // a library's order is its own
  if (a.plan == "reference" || a.plan == "q8") return true;  // the same bits on every backend
  if (a.plan == "invariant") return a.backend == b.backend && a.device == b.device;
  return a.plan == "float64" && a.backend == b.backend;
}

ArmOutcome describe_arm(const std::vector<PromptPair>& pairs, bool arm_b) {
  ArmOutcome arm;
  bool first = true;
  for (const PromptPair& pair : pairs) {
    const Capture& capture = arm_b ? pair.b : pair.a;
    arm.schedules.emplace_back(capture.prompt_id, capture.schedule);
    arm.foreign = arm.foreign || capture.foreign;
    arm.fault_planted = arm.fault_planted || capture.fault_planted;
    if (!std::exchange(first, false)) continue;
    arm.backend = capture.backend;
    arm.plan = capture.plan;
    arm.build = capture.build;
    arm.host = capture.host;
    arm.threads = capture.threads;
    arm.routes = capture.routes;
  }
  return arm;
}

}  // namespace greta::isolate
