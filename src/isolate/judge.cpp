#include "isolate/judge.h"

#include <fmt/format.h>

#include <algorithm>
#include <deque>
#include <map>
#include <tuple>
#include <utility>

#include "isolate/align.h"
#include "isolate/arms.h"
#include "isolate/control_run.h"
#include "isolate/evidence.h"
#include "isolate/first_mismatch.h"
#include "isolate/next_command.h"
#include "isolate/same_model.h"
#include "isolate/table.h"

namespace greta::isolate {
namespace {

/// One prompt on its way to a verdict.
struct Case {
  Case(const PromptPair& p) : pair(p), in_a(p.a), in_b(p.b) {}
  const PromptPair& pair;
  ExpMode exp = ExpMode::aligned;
  RecordIndex in_a, in_b;
  Alignment alignment;
  Comparison comparison;
  Ranking ranking;
  std::optional<std::string> other_weights;  // the arms computed with different weights: which, in words
  bool judged = false;                       // pairs were aligned and may be believed
  bool by_bounds = false;                    // and held to their bounds
};

std::string size_of(const Difference& d) {
  std::string text = d.mae ? fmt::format("MAE {:.3e}", *d.mae) : "MAE unknown";
  if (d.rel) text += fmt::format(", relative RMS {:.3e}", *d.rel);
  return text;
}

/// What two rows have to have in common to be measured; empty: they have it.
std::string unlike(const RecordPair& pair, const Difference& d) {
  std::string text;
  if (d.counts_differ) text += fmt::format("; {} elements in A, {} in B", pair.a->print.count, pair.b->print.count);
  if (dtypes_differ(*pair.a, *pair.b)) text += fmt::format("; {} in A, {} in B", name(*pair.a->dtype), name(*pair.b->dtype));
  return text;
}

std::string found_at(const Finding& finding) {
  const StageRecord& b = *finding.pair.b;
  return fmt::format("{}{}: {}{}", place(b.stage, b.layer, b.position),
                     finding.pair.reread ? fmt::format(" as step {} read it", b.step) : "", size_of(finding.difference),
                     unlike(finding.pair, finding.difference));
}

std::string equal_keys(const KeyCounts& keys) {
  std::string text = fmt::format("{} of {} keys are bit-equal", keys.compared, keys.expected);
  if (keys.unhashed > 0) text += fmt::format(" ({} of them by slice or statistics, for want of a hash)", keys.unhashed);
  return text;
}

const Finding* first_above(const Comparison& comparison) {
  const auto& all = comparison.mismatches;
  const auto found = std::find_if(all.begin(), all.end(), [](const Finding& finding) { return finding.above; });
  return found == all.end() ? nullptr : &*found;
}

ExpMode mode_of(const PromptPair& pair, const ExperimentSpec& spec, const RunInfo& run) {
  if (run.source == Source::compare) return ExpMode::aligned;
  if (const auto mode = exp_mode_from_name(pair.a.exp)) return *mode;
  return exp_mode_from_name(pair.b.exp).value_or(spec.exp);
}

/// The arms computed other things than the pair claims: nothing may be judged.
std::optional<Judgement> not_comparable(const Case& one, const RunInfo& run) {
  const PromptPair& pair = one.pair;
  if (one.exp == ExpMode::aligned && run.source != Source::compare && pair.a.n_prompt == 1 && pair.b.n_prompt == 1)
    return Judgement{Reason::one_token_prompt, "the prompt has one token"};
  if (auto text = not_as_declared(pair, run)) return Judgement{Reason::arm_not_as_declared, *text};
  if (auto text = other_model(pair.a, pair.b, one.alignment.pairs)) return Judgement{Reason::misaligned, *text};
  if (one.alignment.misaligned) return one.alignment.misaligned;
  if (one.alignment.compared == 0)
    return Judgement{Reason::zero_common_keys,
                     fmt::format("A has {} records, B {}, and no key in common", pair.a.records.size(), pair.b.records.size())};
  return std::nullopt;
}

/// Reasons for which an agreement would be worth nothing.
std::optional<Judgement> vacuous(const Case& one, const RunInfo& run) {
  const PromptPair& pair = one.pair;
  for (const Capture* capture : {&pair.a, &pair.b})
    if (capture->fault_planted && capture->fault_effects == 0)
      return Judgement{Reason::fault_without_effect,
                       fmt::format("the fault planted in arm {} changed no element", capture == &pair.a ? 'A' : 'B')};
  if (one.exp == ExpMode::aligned && run.source != Source::compare)
    if (auto text = decode_without_history(pair)) return Judgement{Reason::decode_read_no_history, *text};
  if (one.comparison.mismatches.empty() && same_description(pair))
    return Judgement{Reason::arms_do_not_differ, "both arms recorded the same schedule, backend, plan, routes, build and host"};
  if (const auto& key = one.comparison.nan_both)
    return Judgement{Reason::nan_on_both_sides, place(key->b->stage, key->b->layer, key->b->position)};
  if (const auto& key = one.comparison.zero_both)
    return Judgement{Reason::all_zero, place(key->b->stage, key->b->layer, key->b->position)};
  return std::nullopt;
}

std::string said(const LocalFinding& finding, char arm) {
  return fmt::format("{} of arm {}: {}", place(finding.stage, finding.layer, finding.position), arm, finding.what);
}

/// Positions of which both arms have logits, and of them those with another top-1.
std::pair<int, int> flips(const PromptPair& pair) {
  std::map<std::int32_t, std::int32_t> top;
  for (const LogitsRecord& logits : pair.a.logits) top.emplace(logits.position, logits.top1_id);
  std::pair<int, int> counts;
  for (const LogitsRecord& logits : pair.b.logits) {
    const auto met = top.find(logits.position);
    if (met == top.end()) continue;
    ++counts.first;
    if (met->second != logits.top1_id) ++counts.second;
  }
  return counts;
}

/// By local error; nullopt where it does not decide: rows could not be judged, and none is guilty.
std::optional<Judgement> judge_locally(const Case& one, const LocalPair& local, const RunInfo& run) {
  if (!local.b.guilty.empty()) return Judgement{Reason::beyond_bound, said(local.b.guilty.front(), 'B')};
  if (!local.a.guilty.empty()) return Judgement{Reason::beyond_bound, said(local.a.guilty.front(), 'A')};
  if (local.a.unjudged + local.b.unjudged > 0 || one.alignment.missing_count > 0) return std::nullopt;
  if (auto judgement = vacuous(one, run)) return judgement;
  if (one.other_weights)
    return Judgement{Reason::weights_differ, fmt::format("{}; {} rows of both arms are within their bounds", *one.other_weights,
                                                         local.a.rows + local.b.rows)};
  const LocalJudgement& worse = local.a.worst_ratio > local.b.worst_ratio ? local.a : local.b;
  const auto [positions, flipped] = flips(one.pair);
  const KeyCounts& keys = one.comparison.counts;
  return Judgement{
      Reason::within_bounds,
      fmt::format("{} of {} keys are not bit-equal; {} rows of both arms are within their bounds, the largest error {:.2g} "
                  "of its bound ({}); the top-1 differs at {} of {} positions",
                  keys.compared - keys.bit_equal, keys.compared, local.a.rows + local.b.rows, worse.worst_ratio, worse.worst,
                  flipped, positions)};
}

Judgement judge_aligned(const Case& one, const std::optional<LocalPair>& local, const RunInfo& run) {
  const Comparison& comparison = one.comparison;
  const auto& mismatches = comparison.mismatches;
  const Finding* headline = one.ranking.headline ? &mismatches[*one.ranking.headline] : nullptr;
  std::string unjudged;
  if (local) {
    if (auto judgement = judge_locally(one, *local, run)) return *judgement;
    const LocalJudgement& arm = local->a.unjudged > 0 ? local->a : local->b;
    if (arm.unjudged > 0)
      unjudged = fmt::format("; {} rows could not be held to their bounds: {}", local->a.unjudged + local->b.unjudged,
                             arm.first_unjudged);
  }
  if (one.other_weights) {
    if (auto judgement = vacuous(one, run)) return *judgement;
    return {Reason::weights_differ, *one.other_weights + unjudged};
  }
  if (const Finding* above = first_above(comparison); above != nullptr && headline != nullptr) {
    const Difference& d = headline->difference;
    const bool not_finite = d.nan_b > 0 || (d.inf_b > 0 && d.inf_a == 0);
    const bool masks_differ = !not_finite && infinities_differ(d);
    std::string detail = found_at(*headline);
    if (!headline->above) detail += fmt::format(" (not bit-equal; above the thresholds from {})", found_at(*above));
    if (not_finite) detail += fmt::format("; {} NaN and {} Inf in B", d.nan_b, d.inf_b);
    if (masks_differ) detail += fmt::format("; {} Inf in A and {} in B: the masks differ", d.inf_a, d.inf_b);
    return {not_finite ? Reason::nan_in_b : Reason::above_threshold, detail + unjudged};
  }
  if (auto judgement = vacuous(one, run)) return *judgement;
  for (const Finding& finding : mismatches)
    if (finding.nan_in_a) return {Reason::nan_in_a, found_at(finding)};
  if (one.alignment.missing_count > 0)
    return {Reason::missing_stages, fmt::format("{} of {} keys met; missing: {}", comparison.counts.compared,
                                                comparison.counts.expected, one.alignment.missing.front())};
  if (!mismatches.empty()) return {Reason::below_threshold, found_at(mismatches.front()) + unjudged};
  if (auto lost = missing_operand(one.pair.a, one.pair.b, one.alignment.pairs)) return {Reason::missing_operands, *lost};
  return {Reason::bit_equal, equal_keys(comparison.counts)};
}

Judgement judge_as_designed(const Case& one, const RunInfo& run) {
  if (auto judgement = vacuous(one, run)) return *judgement;
  return {Reason::as_designed, fmt::format("{} rows measured", one.comparison.counts.compared)};
}

void describe_mismatches(const Case& one, PromptOutcome& prompt) {
  const auto& mismatches = one.comparison.mismatches;
  const Ranking& ranking = one.ranking;
  std::optional<std::size_t> first = ranking.headline;
  if (!first && !ranking.minimal.empty()) first = ranking.minimal.front();
  if (first) prompt.first = to_mismatch(mismatches[*first], true);
  for (const std::size_t i : ranking.minimal) prompt.minimal.push_back(to_mismatch(mismatches[i], true));
  if (ranking.drift) prompt.drift = to_mismatch(mismatches[*ranking.drift], true);
  prompt.inherited = ranking.inherited;
  prompt.inherited_stages = ranking.inherited_stages;
}

/// Where ops were judged one by one, the guilty rows are the mismatches that count: of the arm that has any, B first.
void describe_guilty(const Case& one, PromptOutcome& prompt) {
  const std::vector<LocalFinding>& guilty = prompt.local->b.guilty.empty() ? prompt.local->a.guilty : prompt.local->b.guilty;
  if (guilty.empty()) return;
  std::vector<Mismatch> described;
  std::vector<const LocalFinding*> minimal;
  for (const LocalFinding& row : guilty) {
    const bool caused = std::any_of(minimal.begin(), minimal.end(), [&](const LocalFinding* earlier) {
      return earlier->position <= row.position && earlier->layer <= row.layer;
    });
    if (caused) continue;
    minimal.push_back(&row);
    const auto& all = one.comparison.mismatches;
    const auto found = std::find_if(all.begin(), all.end(), [&](const Finding& finding) {
      const StageRecord& b = *finding.pair.b;
      return b.stage == row.stage && b.layer == row.layer && b.position == row.position;
    });
    if (found != all.end()) described.push_back(to_mismatch(*found, true));
  }
  if (described.empty()) return;  // made in stages that are not compared: what they led to stays the headline
  prompt.first = described.front();
  prompt.minimal = std::move(described);
}

/// Where an arm does not repeat itself, what differs between arms says nothing.
void blame_unstable(const Unstable& unstable, PromptOutcome& prompt) {
  const auto& [stage, layer, position] = unstable.row;
  prompt.judgement = {Reason::nondeterministic, fmt::format("{} of arm {}: {}", place(stage, layer, position),
                                                            unstable.arm == 'a' ? 'A' : 'B', unstable.detail)};
  Mismatch first;
  first.stage = stage;
  first.layer = layer;
  first.position = position;
  first.above_threshold = true;
  if (!prompt.first || prompt.first->stage != stage || prompt.first->layer != layer || prompt.first->position != position)
    prompt.first = first;
  prompt.minimal = {*prompt.first};
}

void name_first(PromptOutcome& prompt, bool compared) {
  TableRow& row = prompt.table;
  if (!compared) {
    row.first_mismatch_stage = name(prompt.judgement.verdict());
    return;
  }
  if (!prompt.first) {
    row.first_mismatch_stage = "NONE";
    return;
  }
  row.first_mismatch_stage = name(prompt.first->stage);
  row.first_mismatch_layer = prompt.first->layer;
  row.first_mismatch_pos = prompt.first->position;
}

PromptOutcome judge_prompt(Case& one, const ExperimentSpec& spec, const RunInfo& run, const Comparator& comparator,
                           const LocalJudge& local) {
  const PromptPair& pair = one.pair;
  one.exp = mode_of(pair, spec, run);
  const bool aligned = one.exp == ExpMode::aligned;
  PromptOutcome prompt;
  prompt.exp = one.exp;
  prompt.id = pair.b.prompt_id.empty() ? pair.a.prompt_id : pair.b.prompt_id;
  prompt.n_tokens = std::max(pair.a.n_prompt, pair.b.n_prompt);
  prompt.cut_from = pair.cut_from;
  prompt.schedule_a = pair.a.schedule;
  prompt.schedule_b = pair.b.schedule;
  prompt.kv_slots_read = pair.b.kv_slots_read_from_earlier_steps;
  if (aligned) prompt.severity = severity(pair.a, pair.b);
  one.alignment = aligned ? align(pair.a, one.in_a, pair.b, one.in_b, spec, pair.n_positions)
                          : align_as_designed(pair.a, one.in_a, pair.b, one.in_b, spec);
  prompt.missing = one.alignment.missing;
  if (const auto more = one.alignment.missing_count - static_cast<std::int64_t>(prompt.missing.size()); more > 0)
    prompt.missing.push_back(fmt::format("and {} more", more));
  prompt.not_exposed = one.alignment.not_exposed;
  prompt.keys.expected = one.alignment.expected;
  const std::optional<Judgement> refused = not_comparable(one, run);
  if (aligned && !refused) one.other_weights = other_weights(pair.a, pair.b, one.alignment.pairs);
  prompt.bit_equality_claimed = aligned && !run.weights_differ && !one.other_weights && claims_bit_equality(pair.a, pair.b);
  if (refused) {
    prompt.judgement = *refused;
  } else {
    one.judged = true;
    one.comparison = compare(one.alignment, spec.thresholds, comparator);
    if (run.weights_differ && !one.other_weights && !one.comparison.mismatches.empty())
      one.other_weights = "the model files differ";
    one.ranking = rank(one.comparison, prompt.bit_equality_claimed);
    prompt.keys = one.comparison.counts;
    prompt.compared_stages = one.comparison.stages;
    describe_mismatches(one, prompt);
    if (local && aligned && !prompt.bit_equality_claimed && !one.comparison.mismatches.empty()) {
      prompt.local = local(prompt.id);
      one.by_bounds = prompt.local.has_value();
      if (prompt.local) describe_guilty(one, prompt);
      if (prompt.local) prompt.gains = gains(pair.a, pair.b, std::max(0, prompt.n_tokens - 1));
    }
    prompt.judgement = aligned ? judge_aligned(one, prompt.local, run) : judge_as_designed(one, run);
    if (prompt.judgement.reason == Reason::within_bounds ||
        prompt.judgement.reason == Reason::weights_differ) {  // differences, and none that counts
      if (!prompt.drift) prompt.drift = prompt.first;
      prompt.first.reset();
      prompt.minimal.clear();
    }
  }
  if (aligned && !refused && pair.unstable) blame_unstable(*pair.unstable, prompt);
  name_first(prompt, one.judged);
  std::optional<int> layer;
  if (prompt.first && !once_per_token(prompt.first->stage)) layer = prompt.first->layer;
  measure_table(pair, one.in_a, one.in_b, one.exp, layer, prompt);
  return prompt;
}

std::vector<ControlResult> run_controls(const std::deque<Case>& cases, const ExperimentSpec& spec, const ControlRunner& run,
                                        const Comparator& comparator, const LocalControlRunner& local) {
  std::vector<ControlGround> grounds;
  for (const Case& one : cases)
    if (one.judged && one.exp == ExpMode::aligned)
      grounds.push_back({&one.pair, &one.in_a, &one.in_b, &one.alignment.pairs, !one.comparison.mismatches.empty(),
                         claims_bit_equality(one.pair.a, one.pair.b), one.by_bounds});
  std::vector<ControlResult> results;
  for (const PlannedControl& control : plan_controls(grounds, spec.thresholds, spec.seed)) {
    const ControlGround& ground = grounds[control.ground];
    std::optional<ControlResult> result;
    if (ground.by_bounds && local) result = run_local_control(control.spec, local);
    results.push_back(result ? *result : run_control(control.spec, ground, spec.thresholds, run, comparator));
  }
  return results;
}

Judgement over_all(const Outcome& outcome) {
  if (outcome.prompts.empty()) return {Reason::no_prompts, "no prompt was compared"};
  const PromptOutcome* worst = &outcome.prompts.front();
  for (const PromptOutcome& prompt : outcome.prompts) {
    const bool bits = prompt.judgement.reason == Reason::bit_equal, worst_bits = worst->judgement.reason == Reason::bit_equal;
    if (prompt.judgement.verdict() > worst->judgement.verdict() ||
        (prompt.judgement.verdict() == worst->judgement.verdict() && worst_bits && !bits))
      worst = &prompt;
  }
  const Judgement judgement = {worst->judgement.reason, worst->id + ": " + worst->judgement.detail};
  const Verdict verdict = judgement.verdict();
  // What is vacuous already says why; its controls are lost to the same NaN or zeros.
  if (verdict == Verdict::diverged || verdict == Verdict::vacuous || verdict == Verdict::expected_drift) return judgement;
  for (const ControlResult& control : outcome.controls)
    if (!control.found)
      return {Reason::control_not_found,
              fmt::format("{}: {} planted at {}, found at {}", control.spec.prompt_id, control.spec.magnitude(),
                          place(control.spec.stage, control.spec.layer, control.spec.position), control.where)};
  if (verdict != Verdict::agree) return judgement;
  if (outcome.controls.empty()) return {Reason::control_not_found, "no control could be planted"};
  if (outcome.run.unreadable_lines > 0)
    return {Reason::unreadable_lines, fmt::format("{} lines", outcome.run.unreadable_lines)};
  if (judgement.reason == Reason::within_bounds) return judgement;
  return {Reason::bit_equal, fmt::format("{}; prompts: {}", equal_keys(outcome.keys), outcome.prompts.size())};
}

}  // namespace

Outcome judge(const std::vector<PromptPair>& pairs, const ExperimentSpec& spec, const RunInfo& run, const ControlRunner& runner,
              const Comparator& comparator, const LocalJudge& local, const LocalControlRunner& local_control) {
  Outcome outcome;
  outcome.experiment = spec;
  outcome.run = run;
  outcome.a = describe_arm(pairs, false);
  outcome.b = describe_arm(pairs, true);
  std::deque<Case> cases;
  for (const PromptPair& pair : pairs) {
    Case& one = cases.emplace_back(pair);
    outcome.prompts.push_back(judge_prompt(one, spec, run, comparator, local));
    outcome.keys += outcome.prompts.back().keys;
  }
  // By name, so that whatever order prompts or files came in, the same captures give the same table.
  std::stable_sort(outcome.prompts.begin(), outcome.prompts.end(), [](const PromptOutcome& left, const PromptOutcome& right) {
    return std::tie(left.id, left.exp) < std::tie(right.id, right.exp);
  });
  outcome.controls = run_controls(cases, spec, runner, comparator, local_control);
  outcome.collapse = judge_collapse(outcome.prompts, spec.collapse_token);
  outcome.judgement = over_all(outcome);
  outcome.cause.state = outcome.verdict() == Verdict::diverged ? CauseState::unexplained : CauseState::none;
  outcome.next_command = next_command(outcome);
  return outcome;
}

}  // namespace greta::isolate
