#include "report/log.h"

#include <fmt/format.h>

#include <utility>

#include "report/tsv.h"
#include "report/words.h"

namespace greta::report {
namespace {

using isolate::Mismatch;
using isolate::Outcome;
using isolate::PromptOutcome;

std::string names(std::span<const Stage> stages) {
  std::string out = list(stages);
  std::erase(out, '`');
  return out;
}

std::string mismatch_block(const Mismatch& mismatch) {
  std::string out = fmt::format(
      "  {}{}, arm B's step {}, {}\n    {}\n", place(mismatch.stage, mismatch.layer, mismatch.position, Language::english),
      mismatch.reread ? " (KV slot as this step read it)" : "", mismatch.step,
      mismatch.above_threshold ? "above the thresholds" : "not bit-equal", measures(mismatch.difference, Language::english));
  if (!mismatch.route_a.empty() || !mismatch.route_b.empty())
    out += fmt::format("    route: {} in A, {} in B\n", mismatch.route_a, mismatch.route_b);
  for (const auto& operand : mismatch.operands)
    out += fmt::format("    operand {}: {}{}; A {}; B {}\n", operand.name, operand.equal ? "equal" : "DIFFERENT",
                       operand.b_is_what_was_written ? "" : ", in B not what its producer wrote", operand.a, operand.b);
  return out;
}

std::string top_line(char arm, const std::optional<isolate::TopTokens>& top) {
  if (!top) return fmt::format("top {}: no logits\n", arm);
  return fmt::format("top {}: {} ({:.9g}), {} ({:.9g}), gap {:.9g}{}\n", arm, top->top1, top->top1_logit, top->top2,
                     top->top2_logit, top->gap(), top->tie ? ", tie" : "");
}

}  // namespace

std::string prompt_log(const Outcome& outcome, const PromptOutcome& prompt) {
  std::string out = fmt::format("{}\nprompt {}, {} tokens", outcome.experiment.title, prompt.id, prompt.n_tokens);
  if (prompt.cut_from > 0) out += fmt::format(" (cut from {})", prompt.cut_from);
  out += fmt::format(", mode {}, span {}\n", isolate::name(prompt.exp), outcome.experiment.span);
  out += fmt::format("rows of every forward call: A {}, B {}\n", schedule(prompt.schedule_a), schedule(prompt.schedule_b));
  out += fmt::format("KV slots of earlier steps read by decode0: {}\n", prompt.kv_slots_read);
  out += fmt::format("first mismatch is the first row {}\n", prompt.bit_equality_claimed
                                                                 ? "that is not bit-equal (both arms claim equal bits)"
                                                             : prompt.local ? "beyond its rounding bound"
                                                                            : "above the thresholds");
  if (prompt.local) {
    for (const auto& [arm, one] : {std::pair{'A', &prompt.local->a}, {'B', &prompt.local->b}}) {
      out += fmt::format(
          "local error of arm {}: {} rows judged, {} not, {} beyond their bounds; of the others the largest is {:.3g} of its "
          "bound{}\n",
          arm, one->rows, one->unjudged, one->guilty_rows, one->worst_ratio,
          one->worst.empty() ? std::string() : " (" + one->worst + ")");
      for (const isolate::LocalFinding& row : one->guilty)
        out += fmt::format("  beyond its bound: {} layer {} position {} step {}: {}\n", name(row.stage), row.layer,
                           row.position, row.step, row.what);
    }
  }
  for (const isolate::StageGain& one : prompt.gains)
    out += fmt::format("inherited: {:<13} relative RMS {:.3e}, {:.3g} times its input's (medians over {} layers)\n",
                       name(one.stage), one.rel, one.gain, one.layers);
  out += fmt::format("thresholds: slice MAE {}, relative RMS {}\n", outcome.experiment.thresholds.mae,
                     outcome.experiment.thresholds.rel);
  const auto& keys = prompt.keys;
  out += fmt::format("keys: {} expected, {} compared, {} bit-equal, {} within the thresholds, {} above\n", keys.expected,
                     keys.compared, keys.bit_equal, keys.drifted, keys.above);
  for (const std::string& missing : prompt.missing) out += fmt::format("missing: {}\n", missing);
  for (const std::string& hidden : prompt.not_exposed) out += fmt::format("not exposed: {}\n", hidden);
  out += fmt::format("\nstages: {}\n", names(prompt.compared_stages));
  out += fmt::format("MAE over the slice, prefill_last against decode0, layer {}:\n", prompt.table.layer);
  for (const auto& [stage, mae] : prompt.table.mae)
    out += fmt::format("  {:<13}{}\n", name(stage), mae ? python_repr(*mae) : "None");
  out += top_line('A', prompt.top_a) + top_line('B', prompt.top_b);
  out += fmt::format("\ncausally minimal mismatches: {}\n", prompt.minimal.size());
  for (const Mismatch& mismatch : prompt.minimal) out += mismatch_block(mismatch);
  out += fmt::format("inherited: {} rows{}\n", prompt.inherited,
                     prompt.inherited > 0 ? " of " + names(prompt.inherited_stages) : "");
  if (prompt.drift) out += "drift, first row:\n" + mismatch_block(*prompt.drift);
  out += "\ncontrols:\n";
  for (const auto& control : outcome.controls) {
    if (control.spec.prompt_id != prompt.id) continue;
    out +=
        fmt::format("  {}, element {}, {}{}: {} ({}; first mismatch: {})\n",
                    place(control.spec.stage, control.spec.layer, control.spec.position, Language::english), control.spec.index,
                    control.spec.magnitude(), control.in_memory ? " in memory" : "", control.found ? "found" : "NOT FOUND",
                    control.met == "bound" ? "against its rounding bound" : "against arm " + control.met, control.where);
  }
  out += fmt::format("\nverdict: {} ({})\n{}\n", isolate::name(prompt.judgement.verdict()),
                     isolate::name(prompt.judgement.reason), prompt.judgement.detail);
  return out;
}

}  // namespace greta::report
