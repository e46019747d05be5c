#include "isolate/verdict.h"

#include <array>
#include <cstddef>

namespace greta::isolate {
namespace {

constexpr std::array<std::string_view, 5> kVerdicts = {"AGREE", "EXPECTED_DRIFT", "INCONCLUSIVE", "VACUOUS", "DIVERGED"};

struct ReasonInfo {
  Reason reason;
  std::string_view name;
  Verdict verdict;
  std::string_view explanation;
};

constexpr ReasonInfo kReasons[] = {
    {Reason::bit_equal, "bit_equal", Verdict::agree,
     "every key that both arms recorded is equal bit for bit, and the controls show that a difference would have been found"},
    {Reason::within_bounds, "within_bounds", Verdict::agree,
     "every op of both arms is within its rounding bound and read what was written: what differs is inherited rounding"},
    {Reason::above_threshold, "above_threshold", Verdict::diverged,
     "the arms differ above the thresholds: look at the first mismatch"},
    {Reason::beyond_bound, "beyond_bound", Verdict::diverged,
     "an op wrote what no rounding of its inputs explains, or did not read what was written"},
    {Reason::nan_in_b, "nan_in_b", Verdict::diverged,
     "arm B has NaN or infinity where arm A is finite: look at the operands of the first such row"},
    {Reason::nondeterministic, "nondeterministic", Verdict::diverged,
     "an arm gave other bits when it computed the same again: a race, or memory that nobody wrote; no drift is judged before "
     "that"},
    {Reason::as_designed, "as_designed", Verdict::expected_drift,
     "mode E0 compares different tokens: it is measured, never judged; use --exp E1 for a verdict"},
    {Reason::misaligned, "misaligned", Verdict::inconclusive,
     "the arms did not compute the same tokens at the same positions: align them before comparing"},
    {Reason::missing_stages, "missing_stages", Verdict::inconclusive,
     "keys that one arm recorded are missing in the other: record them, or name what to compare with --stages and --layers"},
    {Reason::missing_operands, "missing_operands", Verdict::inconclusive,
     "rows are equal, but what an op was given was not kept: record the run again with its operands"},
    {Reason::one_token_prompt, "one_token_prompt", Verdict::inconclusive,
     "a prompt of one token leaves nothing for arm B to prefill: use a longer one"},
    {Reason::below_threshold, "below_threshold", Verdict::inconclusive,
     "the arms are not bit-equal, yet nowhere above the thresholds: this may be rounding or a small fault"},
    {Reason::weights_differ, "weights_differ", Verdict::inconclusive,
     "the arms computed with different weights, so their rows differ with nothing wrong: no op is to blame"},
    {Reason::nan_in_a, "nan_in_a", Verdict::inconclusive,
     "arm A, the reference, has NaN where arm B has none: repair the reference first"},
    {Reason::unreadable_lines, "unreadable_lines", Verdict::inconclusive,
     "lines of the trace could not be read, so what they held was not compared: write the trace again"},
    {Reason::zero_common_keys, "zero_common_keys", Verdict::vacuous, "no key was recorded by both arms: nothing was compared"},
    {Reason::arms_do_not_differ, "arms_do_not_differ", Verdict::vacuous,
     "schedule, plan, backend, build and host of the arms are the same: this compares a run with itself"},
    {Reason::arm_not_as_declared, "arm_not_as_declared", Verdict::vacuous,
     "an arm did not run as it was asked to: its result says nothing about what was asked"},
    {Reason::decode_read_no_history, "decode_read_no_history", Verdict::vacuous,
     "decode0 did not read the KV slots of the whole prefix from earlier steps: it did not decode"},
    {Reason::fault_without_effect, "fault_without_effect", Verdict::vacuous,
     "the planted fault changed nothing here: give it another place, or remove it"},
    {Reason::nan_on_both_sides, "nan_on_both_sides", Verdict::vacuous,
     "both arms have NaN at a key: NaN equal to NaN is no agreement"},
    {Reason::all_zero, "all_zero", Verdict::vacuous, "both arms have nothing but zeros at a key: that is no agreement"},
    {Reason::control_not_found, "control_not_found", Verdict::vacuous,
     "an error planted on purpose was not found at its place: this comparison cannot fail, so it proves nothing"},
    {Reason::no_prompts, "no_prompts", Verdict::vacuous, "there was no prompt to compare"},
};

const ReasonInfo& info(Reason reason) { return kReasons[static_cast<std::size_t>(reason)]; }

constexpr bool in_order() {
  for (std::size_t i = 0; i < std::size(kReasons); ++i)
    if (static_cast<std::size_t>(kReasons[i].reason) != i) return false;
  return true;
}
static_assert(in_order());

}  // namespace

std::string_view name(Verdict verdict) { return kVerdicts[static_cast<std::size_t>(verdict)]; }

std::optional<Verdict> verdict_from_name(std::string_view text) {
  for (std::size_t i = 0; i < kVerdicts.size(); ++i)
    if (kVerdicts[i] == text) return static_cast<Verdict>(i);
  return std::nullopt;
}

int exit_code(Verdict verdict) {
  switch (verdict) {
    case Verdict::agree:
    case Verdict::expected_drift:
      return 0;
    case Verdict::diverged:
      return 1;
    case Verdict::inconclusive:
    case Verdict::vacuous:
      break;
  }
  return 2;
}

int git_bisect_code(Verdict verdict) {
  if (verdict == Verdict::agree) return 0;
  return verdict == Verdict::diverged ? 1 : 125;
}

std::string_view name(Reason reason) { return info(reason).name; }
std::optional<Reason> reason_from_name(std::string_view text) {
  for (const ReasonInfo& one : kReasons)
    if (one.name == text) return one.reason;
  return std::nullopt;
}
Verdict verdict_of(Reason reason) { return info(reason).verdict; }
std::string_view explain(Reason reason) { return info(reason).explanation; }

}  // namespace greta::isolate
