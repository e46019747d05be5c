#include "report/markdown_prose.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>

#include "report/say.h"
#include "report/words.h"

namespace greta::report::prose {
namespace {

using isolate::Outcome;
using isolate::PromptOutcome;
using isolate::Reason;
using isolate::Verdict;

Language language(bool es) { return es ? Language::spanish : Language::english; }

/// What was compared: this run's phases, or two captures that somebody gave.
std::string both_arms(const Outcome& outcome, bool es) {
  if (outcome.run.source == isolate::Source::compare) return es ? "el brazo A y el brazo B" : "arm A and arm B";
  return es ? "`prefill_last` (brazo A) y `decode0` (brazo B)" : "`prefill_last` (arm A) and `decode0` (arm B)";
}

std::string prompt_names(const std::vector<const PromptOutcome*>& prompts) {
  std::vector<std::string> names;
  for (const auto* prompt : prompts) names.push_back(prompt->id);
  return list(names);
}

std::string witnesses(const Summary& facts, bool es) {
  if (!facts.largest_witness_mae) return es ? "No se registraron los testigos." : "The witnesses were not recorded.";
  if (*facts.largest_witness_mae == 0)
    return say(es, "Los testigos ({}) coinciden en ambos brazos (MAE 0).", "The witnesses ({}) are equal in both arms (MAE 0).",
               list(witness_stages()));
  return say(es, "El MAE de los testigos ({}) llega hasta {:.3e}.", "The MAE of the witnesses ({}) is up to {:.3e}.",
             list(witness_stages()), *facts.largest_witness_mae);
}

std::string firsts(const Summary& facts, bool es) {
  double largest = 0;
  for (const auto* prompt : facts.diverged)
    if (prompt->first) largest = std::max(largest, prompt->first->difference.mae.value_or(0));
  const auto& first = facts.diverged.front()->first;
  if (facts.same_first && first) {
    const std::string where = once_per_token(first->stage)
                                  ? fmt::format("`{}`", name(first->stage))
                                  : say(es, "`{}`, capa {},", "`{}`, layer {},", name(first->stage), first->layer);
    return say(es, "La primera discrepancia está en {} en {}, con un MAE de hasta {:.3e} en la muestra.",
               "The first mismatch is at {} in {}, with an MAE of up to {:.3e} over the slice.", where,
               prompt_names(facts.diverged), largest);
  }
  std::vector<std::string> each;
  for (const auto* prompt : facts.diverged)
    if (prompt->first)
      each.push_back(fmt::format("`{}`: {}", prompt->id,
                                 place(prompt->first->stage, prompt->first->layer, prompt->first->position, language(es))));
  return say(
      es,
      "La primera discrepancia no está en el mismo lugar en todos los prompts ({}); el MAE llega hasta {:.3e} en la muestra.",
      "The first mismatch is not at one place in all prompts ({}); the MAE is up to {:.3e} over the slice.",
      fmt::join(each, "; "), largest);
}

/// "1 token", "2 tokens": for nouns that add an s, as those used here do in both languages.
std::string counted(std::int64_t count, std::string_view noun) {
  return fmt::format("{} {}{}", count, noun, count == 1 ? "" : "s");
}

std::string arm(char letter, const isolate::ArmOutcome& one, bool es) {
  if (one.foreign && one.backend.empty() && one.plan.empty())
    return say(es, "- Brazo {}: la captura no es de greta y no dice cómo se calculó.\n",
               "- Arm {}: its capture is not greta's and does not say how it was computed.\n", letter);
  std::vector<std::string> routes;
  for (const auto& [op, route] : one.routes) routes.push_back(fmt::format("{}={}", op, route));
  std::string out = say(es, "- Brazo {}: backend `{}`, plan `{}`, {}, compilación `{}`, máquina `{}`",
                        "- Arm {}: backend `{}`, plan `{}`, {}, build `{}`, host `{}`", letter, one.backend, one.plan,
                        counted(one.threads, es ? "hilo" : "thread"), one.build, one.host);
  if (!routes.empty()) out += say(es, "; rutas {}", "; routes {}", list(routes));
  return out + ".\n";
}

std::string mode(const Outcome& outcome, bool es) {
  if (outcome.run.source == isolate::Source::compare)
    return es ? "- Las filas se emparejan por clave (prompt, posición, capa, etapa), y solo si sus tokens son iguales.\n"
              : "- Rows meet by key (prompt, position, layer, stage), and only if their tokens are equal.\n";
  if (outcome.experiment.exp == isolate::ExpMode::aligned)
    return say(es, "- Modo E1 (alineado), con todas las opciones de alineación activadas: {}.\n",
               "- Mode E1 (aligned), with all alignment flags on: {}.\n",
               list(isolate::alignment_flags(outcome.experiment.exp)));
  return es ? "- Modo E0 (según el diseño): `decode0` es el primer token generado, así que las filas comparadas son de "
              "tokens distintos. Se mide, pero no se juzga.\n"
            : "- Mode E0 (as designed): `decode0` is the first generated token, so the rows compared belong to different "
              "tokens. It is measured, not judged.\n";
}

std::string top_change(const PromptOutcome& prompt, bool es) {
  if (!prompt.top_a || !prompt.top_b) return "";
  const auto& a = *prompt.top_a;
  const auto& b = *prompt.top_b;
  const std::string tie =
      a.tie || b.tie ? (es ? " (empate, resuelto a favor del identificador menor)" : " (a tie, resolved to the lowest id)")
                     : "";
  if (a.top1 == b.top1)
    return say(es, " El top-1 es {} en ambos brazos{}; su ventaja sobre el segundo es {:.3g} en A y {:.3g} en B.",
               " The top-1 is {} in both arms{}; its lead over the second is {:.3g} in A and {:.3g} in B.", a.top1, tie,
               a.gap(), b.gap());
  return say(es, " El top-1 pasa de {} en A (ventaja {:.3g}) a {} en B (ventaja {:.3g}){}.",
             " The top-1 goes from {} in A (lead {:.3g}) to {} in B (lead {:.3g}){}.", a.top1, a.gap(), b.top1, b.gap(), tie);
}

std::string mismatch_sentences(const PromptOutcome& prompt, bool es) {
  const auto& first = *prompt.first;
  std::string out = say(es, "primera discrepancia en {} (paso {} del brazo B): {}. Evidencia: {}.",
                        "first mismatch at {} (step {} of arm B): {}. Evidence: {}.",
                        place(first.stage, first.layer, first.position, language(es)), first.step,
                        measures(first.difference, language(es)), evidence(first, language(es)));
  if (prompt.minimal.size() > 1) {
    std::vector<std::string> others;
    for (std::size_t i = 0; i < prompt.minimal.size() && others.size() < 3; ++i) {
      const auto& other = prompt.minimal[i];
      if (other.stage == first.stage && other.layer == first.layer && other.position == first.position) continue;
      others.push_back(place(other.stage, other.layer, other.position, language(es)));
    }
    out += say(es, " Hay {} discrepancias que no pueden derivarse unas de otras; entre las demás: {}.",
               " There are {} mismatches of which none can follow from another; among the others: {}.", prompt.minimal.size(),
               fmt::join(others, "; "));
  }
  if (prompt.inherited > 0)
    out += say(es, " Filas que solo la heredan: {} ({}).", " Rows that merely inherit it: {} ({}).", prompt.inherited,
               list(prompt.inherited_stages));
  if (prompt.drift)
    out += say(es, " Antes de ella hay filas que difieren sin superar los umbrales, desde {} (MAE {}).",
               " Before it, rows differ within the thresholds, from {} (MAE {}).",
               place(prompt.drift->stage, prompt.drift->layer, prompt.drift->position, language(es)),
               scientific(prompt.drift->difference.mae, language(es)));
  return out;
}

/// An agreement of arms on different routes: what each op added is rounding.
std::string within_bounds(const PromptOutcome& prompt, bool es) {
  const isolate::LocalJudgement &a = prompt.local->a, &b = prompt.local->b;
  const isolate::LocalJudgement& worse = a.worst_ratio > b.worst_ratio ? a : b;
  return say(
      es,
      "{} de {} claves comparadas no son iguales bit a bit; las {} filas de ambos brazos están dentro de su cota de redondeo "
      "(la mayor llega a {:.2g} de la suya), así que lo que difiere es redondeo heredado.",
      "{} of {} keys compared are not bit-equal; all {} rows of both arms are within their rounding bounds (the largest error "
      "is {:.2g} of its bound), so what differs is inherited rounding.",
      prompt.keys.compared - prompt.keys.bit_equal, prompt.keys.compared, a.rows + b.rows, worse.worst_ratio);
}

std::string prompt_item(const PromptOutcome& prompt, bool es) {
  std::string out = fmt::format("- `{}`: ", prompt.id);
  switch (prompt.judgement.verdict()) {
    case Verdict::agree:
      if (prompt.local && prompt.judgement.reason == isolate::Reason::within_bounds) {
        out += within_bounds(prompt, es);
        break;
      }
      out += say(es, "{} de {} claves comparadas, todas iguales bit a bit.", "{} of {} keys compared, all of them bit-equal.",
                 prompt.keys.compared, prompt.keys.expected);
      if (prompt.keys.unhashed > 0)
        out += say(es, " De ellas, {} solo por su muestra, pues falta el hash de la fila entera.",
                   " Of these, {} by their slice alone, as there is no hash of the whole row.", prompt.keys.unhashed);
      break;
    case Verdict::diverged:
    case Verdict::expected_drift:
      if (prompt.first) {
        out += mismatch_sentences(prompt, es);
      } else {
        out += es ? "ninguna diferencia por encima de los umbrales." : "no difference above the thresholds.";
      }
      break;
    case Verdict::inconclusive:
    case Verdict::vacuous:
      out += say(es, "{} (`{}`): {}. Detalle: `{}`.", "{} (`{}`): {}. Detail: `{}`.", isolate::name(prompt.judgement.verdict()),
                 isolate::name(prompt.judgement.reason), explanation(prompt.judgement.reason, language(es)),
                 prompt.judgement.detail);
      if (prompt.first) out += (es ? " Medido: " : " Measured: ") + mismatch_sentences(prompt, es);
      break;
  }
  return out + top_change(prompt, es) + "\n";
}

}  // namespace

std::string summary(const Outcome& outcome, bool es) {
  const Summary facts = summarise(outcome);
  std::string out = fmt::format("**{}** (`{}`). ", isolate::name(outcome.verdict()), isolate::name(outcome.judgement.reason));
  switch (outcome.verdict()) {
    case Verdict::agree:
      out += outcome.judgement.reason == isolate::Reason::within_bounds
                 ? say(es,
                       "{} usan rutas distintas: de {} claves comparadas, {} son iguales bit a bit, y el resto difiere en "
                       "redondeo heredado, en {}. ",
                       "{} took different routes: of {} keys compared, {} are equal bit for bit, and the others differ by "
                       "inherited "
                       "rounding, in {}. ",
                       both_arms(outcome, es), outcome.keys.compared, outcome.keys.bit_equal,
                       counted(static_cast<std::int64_t>(outcome.prompts.size()), "prompt"))
                 : say(es, "{} coinciden bit a bit en las {} claves comparadas, en {}. ",
                       "{} are equal bit for bit at all {} keys compared, in {}. ", both_arms(outcome, es),
                       outcome.keys.compared, counted(static_cast<std::int64_t>(outcome.prompts.size()), "prompt"));
      out += es ? "Esto indica que los brazos coinciden, no que alguno sea correcto. "
                : "This says that the arms agree, not that either is right. ";
      break;
    case Verdict::diverged:
      out += say(es, "{} difieren en {} de {} prompts. ", "{} differ in {} of {} prompts. ", both_arms(outcome, es),
                 facts.diverged.size(), outcome.prompts.size());
      out += firsts(facts, es) + " " + witnesses(facts, es) + " ";
      break;
    case Verdict::expected_drift:
    case Verdict::inconclusive:
    case Verdict::vacuous:
      out += say(es, "Los brazos no se han juzgado: {}. Detalle: `{}`. ", "The arms were not judged: {}. Detail: `{}`. ",
                 explanation(outcome.judgement.reason, language(es)), outcome.judgement.detail);
      break;
  }
  out += collapse(outcome, language(es)) + " ";
  out += say(es, "Controles: {}.\n", "Controls: {}.\n", controls(outcome, language(es)));
  return out;
}

std::string context(const Outcome& outcome, bool es) {
  std::string out;
  if (outcome.run.source == isolate::Source::compare) {
    out += es ? "Se comparan dos capturas, fila a fila, en las claves que ambas tienen.\n\n"
              : "Two captures are compared, row by row, at the keys that both have.\n\n";
  } else if (outcome.experiment.exp == isolate::ExpMode::as_designed) {
    out +=
        es ? "Se miden la última fila del prefill y el primer token generado en decode, que no son el mismo token.\n\n"
           : "The last row of prefill and the first token generated in decode are measured: they are not the same token.\n\n";
  } else {
    out +=
        es ? "Prefill y decode deben calcular la misma fila del mismo modelo. El brazo A procesa el prompt entero en "
             "prefill; el brazo B procesa en prefill todo salvo el último token, que procesa en decode. La primera etapa en la "
             "que difieren contiene el primer valor erróneo.\n\n"
           : "Prefill and decode must compute the same row of the same model. Arm A prefills the whole prompt; arm B "
             "prefills all but the last token and decodes that one. The first stage at which they differ holds the first "
             "wrong number.\n\n";
  }
  if (!outcome.run.model_path.empty()) {
    out += say(es, "- Modelo: `{}`", "- Model: `{}`", outcome.run.model_path);
    if (!outcome.run.model_hash.empty()) out += say(es, ", hash `{}`", ", hash `{}`", outcome.run.model_hash);
    out += ".\n";
  }
  out += say(es, "- Experimento: `{}`, modo {}, {}.\n", "- Experiment: `{}`, mode {}, {}.\n", outcome.experiment.id,
             isolate::name(outcome.experiment.exp), outcome.run.date);
  for (const auto* one : {&outcome.a, &outcome.b})
    if (one->fault_planted)
      out += say(es, "- En el brazo {} se inyectó un fallo a propósito.\n", "- A fault was planted in arm {} on purpose.\n",
                 one == &outcome.a ? 'A' : 'B');
  if (!outcome.a.fault_planted && !outcome.b.fault_planted && outcome.run.source == isolate::Source::isolate)
    out += es ? "- No se inyectó ningún fallo.\n" : "- No fault was planted.\n";
  for (const std::string& note : outcome.run.notes) out += say(es, "- Nota: {}\n", "- Note: {}\n", note);
  return out;
}

std::string method(const Outcome& outcome, bool es) {
  const auto& spec = outcome.experiment;
  std::string out = mode(outcome, es);
  for (const PromptOutcome& prompt : outcome.prompts) {
    out += prompt.n_tokens > 0
               ? fmt::format("- Prompt `{}`: {}", prompt.id, counted(prompt.n_tokens, "token"))
               : say(es, "- Prompt `{}`: número de tokens desconocido", "- Prompt `{}`: number of tokens unknown", prompt.id);
    if (prompt.cut_from > 0)
      out += say(es, " (recortado de {} para que quepa en el contexto)", " (cut from {} to fit the context)", prompt.cut_from);
    if (!prompt.schedule_a.empty() && !prompt.schedule_b.empty())
      out += say(es, "; filas por llamada: A {}, B {}; `decode0` leyó {} entradas KV escritas en pasos anteriores",
                 "; rows per call: A {}, B {}; `decode0` read {} KV slots written in earlier steps",
                 schedule(prompt.schedule_a), schedule(prompt.schedule_b), prompt.kv_slots_read);
    out += ".\n";
  }
  const auto compared = std::find_if(outcome.prompts.begin(), outcome.prompts.end(),
                                     [](const PromptOutcome& prompt) { return !prompt.compared_stages.empty(); });
  if (compared != outcome.prompts.end())
    out += say(es, "- Etapas comparadas: {}; capas: {}.\n", "- Stages compared: {}; layers: {}.\n",
               list(compared->compared_stages), spec.layers.all && es ? "todas" : spec.layers.text());
  for (const PromptOutcome& prompt : outcome.prompts) {
    if (prompt.not_exposed.empty()) continue;
    out += say(es, "- Etapas que la ruta elegida no expone: {}.\n", "- Stages that the chosen route does not expose: {}.\n",
               list(prompt.not_exposed));
    break;
  }
  out += arm('A', outcome.a, es) + arm('B', outcome.b, es);
  out += say(
      es,
      "- El MAE se calcula sobre una muestra, como máximo los primeros {} elementos de cada fila; los veredictos usan todos "
      "(hash y count-sketch). Tokens decodificados que se comparan: {}.\n",
      "- The MAE is taken over a slice, at most the first {} elements of a row; verdicts use all elements (hash and "
      "count-sketch). Decoded tokens compared: {}.\n",
      spec.sample, spec.span);
  const bool claimed = compared != outcome.prompts.end() && compared->bit_equality_claimed;
  const bool local = compared != outcome.prompts.end() && compared->local;
  if (local) {
    out += es ? "- Los brazos usan rutas distintas: cada operación de cada brazo se recalculó en float64 a partir de lo que "
                "leyó y de los "
                "pesos y parámetros del fichero del modelo, y cuenta la primera fila que supera su cota de redondeo.\n"
              : "- The arms took different routes: every op of each arm was computed again in float64 from what it read and "
                "from the "
                "model file's weights and parameters, and the first row beyond its rounding bound counts.\n";
    return out;
  }
  out += claimed
             ? say(es,
                   "- Ambos brazos prometen los mismos bits: cuenta la primera fila que no es igual bit a bit; es DIVERGED si "
                   "alguna supera un MAE de {:.3e} o un RMS relativo de {:.3e}.\n",
                   "- Both arms promise the same bits: the first row that is not bit-equal counts; DIVERGED if any exceeds an "
                   "MAE of {:.3e} or a relative RMS of {:.3e}.\n",
                   spec.thresholds.mae, spec.thresholds.rel)
             : say(es, "- Cuenta la primera fila que supera un MAE de {:.3e} o un RMS relativo de {:.3e}.\n",
                   "- The first row that exceeds an MAE of {:.3e} or a relative RMS of {:.3e} counts.\n", spec.thresholds.mae,
                   spec.thresholds.rel);
  return out;
}

std::string interpretation(const Outcome& outcome, bool es) {
  std::string out;
  for (const PromptOutcome& prompt : outcome.prompts) out += prompt_item(prompt, es);
  out += fmt::format("- {}\n", collapse(outcome, language(es)));
  out += say(es, "- Controles: {}.\n", "- Controls: {}.\n", controls(outcome, language(es)));
  return out;
}

std::string conclusion(const Outcome& outcome, bool es) {
  const Summary facts = summarise(outcome);
  std::string out = say(es, "Veredicto: **{}**, código de salida {}. ", "Verdict: **{}**, exit code {}. ",
                        isolate::name(outcome.verdict()), outcome.exit_code());
  if (outcome.verdict() == Verdict::agree)
    return out +
           say(es,
               "Con estos prompts no se encontró ninguna diferencia entre los brazos{}, y la comparación detectó {} de {} "
               "errores "
               "inyectados a propósito.\n",
               "On these prompts no difference between the arms was found{}, and the comparison found {} of {} errors planted "
               "on purpose.\n",
               outcome.judgement.reason != isolate::Reason::within_bounds ? ""
               : es                                                       ? " que el redondeo no explique"
                                                                          : " that rounding does not explain",
               outcome.controls_found(), outcome.controls.size());
  if (outcome.verdict() != Verdict::diverged)
    return out + say(es, "Esta ejecución no permite concluir ni que los brazos coincidan ni que difieran: {}.\n",
                     "This run shows neither that the arms agree nor that they differ: {}.\n",
                     explanation(outcome.judgement.reason, language(es)));
  const auto& first = facts.diverged.front()->first;
  const bool single = facts.same_first && std::all_of(facts.diverged.begin(), facts.diverged.end(), [](const auto* prompt) {
                        return prompt->minimal.size() == 1 && !prompt->drift;
                      });
  if (single && first)
    out += say(
        es,
        "El error aparece en `{}`{}: todas las filas registradas antes {}, y todo lo que difiere después puede venir de ahí. ",
        "The error enters at `{}`{}: every row recorded before it {}, and everything that differs after it may come from "
        "there. ",
        name(first->stage), once_per_token(first->stage) ? std::string() : say(es, ", capa {}", ", layer {}", first->layer),
        facts.diverged.front()->local ? (es ? "está dentro de su cota de redondeo" : "is within its rounding bound")
        : es                          ? "son iguales bit a bit en ambos brazos"
                                      : "is equal bit for bit in both arms");
  else
    out += firsts(facts, es) + " ";
  if (outcome.cause.state == isolate::CauseState::unexplained)
    out += es ? "La causa queda sin explicar: esta ejecución dice dónde aparece el error, no por qué.\n"
              : "The cause is unexplained: this run says where the error enters, not why.\n";
  else
    out += say(es, "Causa ({}): `{}`.\n", "Cause ({}): `{}`.\n", isolate::name(outcome.cause.state), outcome.cause.text());
  if (std::string said = confirmation(outcome.cause, es ? Language::spanish : Language::english); !said.empty()) {
    said.front() = static_cast<char>(std::toupper(static_cast<unsigned char>(said.front())));
    out += said + ".\n";
  }
  return out;
}

std::string next_step(const Outcome& outcome, bool es) {
  switch (outcome.verdict()) {
    case Verdict::agree:
      return es ? "Comprobar, con un fallo inyectado, que la comparación lo detecta donde debe:"
                : "See that the comparison finds a planted fault where it should:";
    case Verdict::diverged:
      return es ? "Examinar de cerca la primera discrepancia:" : "Look closer at the first mismatch:";
    case Verdict::expected_drift:
      return es ? "Alinear los brazos, para obtener un veredicto:" : "Align the arms for a verdict:";
    case Verdict::inconclusive:
    case Verdict::vacuous:
      break;
  }
  if (outcome.judgement.reason == Reason::below_threshold)
    return es ? "Comprobar si es redondeo, que en float64 se reduce:"
              : "Check whether it is rounding, which shrinks in float64:";
  return es ? "Corregir lo que impidió el veredicto y repetir; para empezar:"
            : "Fix what prevented a verdict and run again; to begin with:";
}

}  // namespace greta::report::prose
