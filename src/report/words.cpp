#include "report/words.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "audit/bucket.h"
#include "report/explanations_es.h"
#include "report/say.h"

namespace greta::report {
namespace {

using isolate::Mismatch;
using isolate::OperandEvidence;

bool spanish(Language language) { return language == Language::spanish; }

/// "x_after_attn layer 0 position 2".
std::string row(const isolate::StageRow& one, bool es) {
  if (once_per_token(one.stage)) return say(es, "`{}` (posición {})", "`{}` position {}", name(one.stage), one.position);
  return say(es, "`{}` (capa {}, posición {})", "`{}` layer {} position {}", name(one.stage), one.layer, one.position);
}

/// "B read x_after_attn layer 0 position 0, where position 2 was due".
std::string reading(char arm, const isolate::StageRow& read, const isolate::StageRow& due, bool es) {
  std::string out = say(es, "{} leyó {}", "{} read {}", arm, row(read, es));
  if (read == due) return out + (es ? ", como debía" : ", as it should");
  if (read.stage == due.stage && read.layer == due.layer)
    return out + say(es, ", cuando le correspondía la posición {}", ", where position {} was due", due.position);
  return out + say(es, ", cuando le correspondía {}", ", where {} was due", row(due, es));
}

std::string odd_operand(const OperandEvidence& operand, bool es) {
  if (operand.read_a && operand.read_b && operand.due && (*operand.read_a != *operand.due || *operand.read_b != *operand.due))
    return say(es, "operando `{}`: {}; {}", "operand `{}`: {}; {}", operand.name,
               reading('B', *operand.read_b, *operand.due, es), reading('A', *operand.read_a, *operand.due, es));
  if (!operand.same_origin || operand.a != operand.b)
    return say(es, "operando `{}`: `{}` en A, `{}` en B", "operand `{}`: `{}` in A, `{}` in B", operand.name, operand.a,
               operand.b);
  if (!operand.b_is_what_was_written)
    return say(es, "el operando `{}` que leyó el brazo B no es lo que escribió `{}`",
               "operand `{}` as arm B read it is not what `{}` wrote", operand.name, operand.b);
  return say(es, "el operando `{}` (`{}`) tiene otros valores en B", "operand `{}` (`{}`) holds other values in B",
             operand.name, operand.a);
}

}  // namespace

std::string place(Stage stage, int layer, int position, Language language) {
  const bool es = spanish(language);
  if (once_per_token(stage)) return fmt::format("{}, {} {}", name(stage), es ? "posición" : "position", position);
  return fmt::format("{}, {} {}, {} {}", name(stage), es ? "capa" : "layer", layer, es ? "posición" : "position", position);
}

std::string scientific(const std::optional<double>& value, Language language) {
  if (value) return fmt::format("{:.3e}", *value);
  return spanish(language) ? "desconocido" : "unknown";
}

std::string list(std::span<const Stage> stages) {
  std::vector<std::string> quoted;
  for (const Stage stage : stages) quoted.push_back(fmt::format("`{}`", name(stage)));
  return fmt::format("{}", fmt::join(quoted, ", "));
}

std::string list(std::span<const std::string> names) {
  std::vector<std::string> quoted;
  for (const std::string& one : names) quoted.push_back(fmt::format("`{}`", one));
  return fmt::format("{}", fmt::join(quoted, ", "));
}

std::string schedule(const std::vector<std::int32_t>& rows) {
  std::vector<std::string> parts;
  for (std::size_t i = 0; i < rows.size();) {
    std::size_t run = i;
    while (run < rows.size() && rows[run] == rows[i]) ++run;
    parts.push_back(run - i > 1 ? fmt::format("{} x {}", rows[i], run - i) : fmt::format("{}", rows[i]));
    i = run;
  }
  return fmt::format("[{}]", fmt::join(parts, ", "));
}

std::string evidence(const Mismatch& mismatch, Language language) {
  const bool es = spanish(language);
  if (mismatch.operands.empty()) return es ? "no se registraron los operandos" : "its operands were not recorded";
  std::vector<std::string> odd;
  for (const OperandEvidence& operand : mismatch.operands)
    if (!operand.b_is_what_was_written || !operand.same_origin || !operand.equal) odd.push_back(odd_operand(operand, es));
  if (!odd.empty()) return fmt::format("{}", fmt::join(odd, "; "));
  return es ? "todos los operandos leídos son iguales en ambos brazos: es la propia operación la que dio otro resultado"
            : "both arms read equal operands: the op itself computed something else";
}

std::string measures(const isolate::Difference& d, Language language) {
  const bool es = spanish(language);
  std::string out = fmt::format("MAE {}", scientific(d.mae, language));
  if (d.max_abs)
    out += say(es, ", error máximo {:.3e} en el elemento {}", ", largest error {:.3e} at element {}", *d.max_abs, d.max_index);
  if (d.rel) out += say(es, ", RMS relativo {:.3e}", ", relative RMS {:.3e}", *d.rel);
  if (!d.rel && d.rms) out += say(es, ", RMS absoluto {:.3e}", ", absolute RMS {:.3e}", *d.rms);
  if (d.cosine) out += say(es, ", coseno {:.9f}", ", cosine {:.9f}", *d.cosine);
  if (d.nan_b > 0 || d.inf_b > 0) out += say(es, ", {} NaN y {} Inf en B", ", {} NaN and {} Inf in B", d.nan_b, d.inf_b);
  return out;
}

std::string explanation(isolate::Reason reason, Language language) {
  return std::string(spanish(language) ? explain_es(reason) : isolate::explain(reason));
}

Summary summarise(const isolate::Outcome& outcome) {
  Summary summary;
  for (const auto& prompt : outcome.prompts) {
    switch (prompt.judgement.verdict()) {
      case isolate::Verdict::diverged:
        summary.diverged.push_back(&prompt);
        break;
      case isolate::Verdict::agree:
        summary.agreed.push_back(&prompt);
        break;
      default:
        summary.other.push_back(&prompt);
    }
    if (prompt.table.decode0_top1) ++summary.measured;
  }
  for (const auto* prompt : summary.diverged)
    for (const Stage witness : witness_stages())
      if (const auto mae = prompt->table.mae_of(witness))
        summary.largest_witness_mae = std::max(summary.largest_witness_mae.value_or(0), *mae);
  summary.same_first =
      !summary.diverged.empty() && std::all_of(summary.diverged.begin(), summary.diverged.end(), [&](const auto* prompt) {
        const auto& first = summary.diverged.front()->first;
        return prompt->first && first && prompt->first->stage == first->stage && prompt->first->layer == first->layer;
      });
  return summary;
}

std::string collapse(const isolate::Outcome& outcome, Language language) {
  const bool es = spanish(language);
  const auto& found = outcome.collapse;
  const int measured = summarise(outcome).measured;
  if (measured == 0)
    return es ? "No hay logits con los que juzgar si hay colapso." : "There are no logits to judge a collapse by.";
  if (found.value)
    return say(
        es, "Hay colapso: {} de {} prompts dan el token {} en `decode0`, y `prefill_last` da otro en al menos uno de ellos.",
        "Collapse: {} of {} prompts give token {} at `decode0`, and `prefill_last` gives another in at least one of them.",
        found.rows, measured, found.id);
  return say(es, "No hay colapso: {} de {} prompts dan el token {} en `decode0`.",
             "No collapse: {} of {} prompts give token {} at `decode0`.", found.rows, measured, found.id);
}

std::string bucket(const isolate::Cause& cause) {
  if (cause.state == isolate::CauseState::none) return std::string(audit::name(audit::Bucket::none));
  if (cause.state != isolate::CauseState::named) return "unknown";
  return std::string(audit::name(audit::bucket_of(cause.name)));
}

std::string confirmation(const isolate::Cause& cause, Language language) {
  if (!cause.substitution || cause.substitution->rows == 0) return "";
  const isolate::Substitution& run = *cause.substitution;
  const bool es = language == Language::spanish;
  const auto rows = [es](std::int64_t n) {
    return es ? fmt::format("{} {}", n, n == 1 ? "fila" : "filas") : fmt::format("{} {}", n, n == 1 ? "row" : "rows");
  };
  if (run.agrees())
    return say(
        es, "con los valores correctos en {}, puestos a través de las operaciones, ninguna fila de los brazos sale de su cota",
        "with the right values in {}, put there through the ops, no row of the arms is beyond its bound", rows(run.rows));
  return say(
      es, "con los valores correctos en {} los brazos aún no coinciden: siguen fuera de su cota {}, y no se pudieron juzgar {}",
      "with the right values in {} the arms do not agree yet: {} still beyond their bounds, {} not judged", rows(run.rows),
      rows(run.guilty), rows(run.left));
}

std::string controls(const isolate::Outcome& outcome, Language language) {
  const bool es = spanish(language);
  if (outcome.controls.empty()) return es ? "no se inyectó ninguno" : "none was planted";
  const bool in_memory = outcome.controls.front().in_memory;
  std::string out = say(es, "{} de {} detectados en su lugar", "{} of {} found at their place", outcome.controls_found(),
                        outcome.controls.size());
  if (es) {
    out += in_memory ? " (en memoria: se alteró un registro, no la ejecución)"
                     : " (se repitió el paso de decode con la perturbación inyectada en las operaciones)";
  } else {
    out += in_memory ? " (in memory: one record was altered, not the run)"
                     : " (the decode step was run again with the perturbation planted in its ops)";
  }
  for (const auto& control : outcome.controls) {
    if (control.found) continue;
    out += say(es, "; el de `{}` ({}) se detectó en: {}", "; that of `{}` ({}) was found at: {}", name(control.spec.stage),
               control.spec.magnitude(), es && control.where == "nothing" ? "ninguna parte" : control.where);
    break;
  }
  return out;
}

}  // namespace greta::report
