#include "report/markdown.h"

#include <fmt/format.h>

#include "report/markdown_prose.h"
#include "report/say.h"
#include "report/words.h"

namespace greta::report {
namespace {

using isolate::Outcome;
using isolate::PromptOutcome;

std::string cell(const std::optional<double>& value) { return value ? fmt::format("{:.3e}", *value) : "None"; }
std::string cell(const std::optional<int>& value) { return value ? fmt::format("{}", *value) : "None"; }

std::string result_table(const Outcome& outcome) {
  constexpr Stage kColumns[] = {Stage::ffn_norm, Stage::mlp_out, Stage::x_after_mlp, Stage::x_out};
  std::string out = "| prompt | exp | first_mismatch_stage |";
  for (const Stage stage : kColumns) out += fmt::format(" {}_mae |", name(stage));
  out += fmt::format(" prefill_last_top1 | decode0_top1 | collapse_{} |\n|---|---|---|---:|---:|---:|---:|---:|---:|---|\n",
                     outcome.collapse.id);
  for (const PromptOutcome& prompt : outcome.prompts) {
    const isolate::TableRow& row = prompt.table;
    out += fmt::format("| {} | {} | {} |", prompt.id, isolate::name(prompt.exp), row.first_mismatch_stage);
    for (const Stage stage : kColumns) out += fmt::format(" {} |", cell(row.mae_of(stage)));
    out += fmt::format(" {} | {} | {} |\n", cell(row.prefill_last_top1), cell(row.decode0_top1),
                       row.collapse ? (*row.collapse ? "true" : "false") : "None");
  }
  return out;
}

std::string witness_table(const Outcome& outcome) {
  std::string head = "| prompt | layer |", rule = "|---|---:|";
  for (const Stage stage : witness_stages()) {
    head += fmt::format(" {}_mae |", name(stage));
    rule += "---:|";
  }
  std::string out = head + "\n" + rule + "\n";
  for (const PromptOutcome& prompt : outcome.prompts) {
    out += fmt::format("| {} | {} |", prompt.id, prompt.table.layer < 0 ? "None" : fmt::format("{}", prompt.table.layer));
    for (const Stage stage : witness_stages()) out += fmt::format(" {} |", cell(prompt.table.mae_of(stage)));
    out += "\n";
  }
  return out;
}

std::string source_line(const Outcome& outcome, bool es) {
  if (outcome.run.run_dir.empty()) return say(es, "Source: `{}`\n", "Source: `{}`\n", outcome.run.command);
  return say(es, "Source: `{}/{}_analysis.txt`\n", "Source: `{}/{}_analysis.txt`\n", outcome.run.run_dir,
             outcome.experiment.id);
}

std::string commands(const Outcome& outcome) {
  std::string out = fmt::format("```sh\n{}\n", outcome.run.command);
  if (!outcome.run.analyze_command.empty()) out += outcome.run.analyze_command + "\n";
  return out + "```\n";
}

std::string part(const Outcome& outcome, bool es) {
  std::string out;
  const auto section = [&](const char* spanish, const char* english, const std::string& body) {
    out += fmt::format("\n## {}\n\n{}", es ? spanish : english, body);
  };
  section("Resumen Ejecutivo", "Executive Summary", prose::summary(outcome, es));
  section("Contexto", "Context", prose::context(outcome, es));
  section("Metodología", "Method", prose::method(outcome, es));
  section(
      "Resultados", "Results",
      source_line(outcome, es) + "\n" + result_table(outcome) +
          (es ? "\nTestigos, `prefill_last` frente a `decode0`:\n\n" : "\nWitnesses, `prefill_last` against `decode0`:\n\n") +
          witness_table(outcome) + (es ? "\n### Interpretación\n\n" : "\n### Interpretation\n\n") +
          prose::interpretation(outcome, es));
  section("Comandos", "Commands that reproduce the run", commands(outcome));
  section("Conclusión", "Conclusion", prose::conclusion(outcome, es));
  section("Próximo paso", "Next step",
          fmt::format("{}\n\n```sh\n{}\n```\n", prose::next_step(outcome, es), outcome.next_command));
  return out;
}

}  // namespace

std::string markdown(const Outcome& outcome, Language language) {
  std::string out = fmt::format("# {}\n", outcome.experiment.title);
  if (language != Language::english) out += part(outcome, true);
  if (language == Language::both) out += "\n---\n";
  if (language != Language::spanish) out += part(outcome, false);
  return out;
}

}  // namespace greta::report
