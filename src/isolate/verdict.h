// Verdicts, their machine reasons and exit codes.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace greta::isolate {

/// In ascending precedence: over prompts the highest stands.
enum class Verdict : std::uint8_t { agree, expected_drift, inconclusive, vacuous, diverged };
/// "AGREE", "EXPECTED_DRIFT", "INCONCLUSIVE", "VACUOUS", "DIVERGED".
std::string_view name(Verdict verdict);
std::optional<Verdict> verdict_from_name(std::string_view name);
/// AGREE, EXPECTED_DRIFT 0; DIVERGED 1; INCONCLUSIVE, VACUOUS 2.
int exit_code(Verdict verdict);
/// For `git bisect run`: 0, 1, else 125 (cannot tell).
int git_bisect_code(Verdict verdict);

enum class Reason : std::uint8_t {
  // AGREE
  bit_equal,
  within_bounds,
  // DIVERGED
  above_threshold,
  beyond_bound,
  nan_in_b,
  nondeterministic,
  // EXPECTED_DRIFT
  as_designed,
  // INCONCLUSIVE
  misaligned,
  missing_stages,
  missing_operands,
  one_token_prompt,
  below_threshold,
  weights_differ,
  nan_in_a,
  unreadable_lines,
  // VACUOUS
  zero_common_keys,
  arms_do_not_differ,
  arm_not_as_declared,
  decode_read_no_history,
  fault_without_effect,
  nan_on_both_sides,
  all_zero,
  control_not_found,
  no_prompts,
};
/// "bit_equal", "above_threshold", ...
std::string_view name(Reason reason);
std::optional<Reason> reason_from_name(std::string_view name);
/// The verdict that a reason gives.
Verdict verdict_of(Reason reason);
/// One English line on what the reason means and what to do.
std::string_view explain(Reason reason);

struct Judgement {
  Reason reason = Reason::bit_equal;
  std::string detail;  // one English line with the values: "position 4: token 17 in A, 18 in B"
  Verdict verdict() const { return verdict_of(reason); }
};

}  // namespace greta::isolate
