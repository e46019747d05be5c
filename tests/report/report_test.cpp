// What is written of an outcome: the table, verdict.json, report.md, the terminal's summary, the logs.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <limits>
#include <nlohmann/json.hpp>
#include <sstream>

#include "report/json.h"
#include "report/log.h"
#include "report/markdown.h"
#include "report/text.h"
#include "report/tsv.h"
#include "tests/report/outcomes.h"

namespace greta::report {
namespace {

namespace fs = std::filesystem;

/// Compares with tests/golden/NAME; what was written instead is left in the temporary directory, ready for diff and for review.
void expect_golden(const std::string& name, const std::string& written) {
  const fs::path golden = fs::path(GRETA_SOURCE_DIR) / "tests/golden" / name;
  std::ifstream stream(golden, std::ios::binary);
  const std::string expected{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
  if (written == expected) return;
  const fs::path kept = fs::path(::testing::TempDir()) / ("greta_golden_" + name);
  std::ofstream(kept, std::ios::binary) << written;
  ADD_FAILURE() << "differs from " << golden << "; see: diff " << golden.string() << " " << kept.string();
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

TEST(PythonRepr, IsWhatPythonPrints) {
  // Each from `repr(...)` of CPython 3.
  EXPECT_EQ(python_repr(0.0), "0.0");
  EXPECT_EQ(python_repr(-0.0), "-0.0");
  EXPECT_EQ(python_repr(1.0), "1.0");
  EXPECT_EQ(python_repr(0.1), "0.1");
  EXPECT_EQ(python_repr(1e-05), "1e-05");
  EXPECT_EQ(python_repr(0.0001), "0.0001");
  EXPECT_EQ(python_repr(1.5e-10), "1.5e-10");
  EXPECT_EQ(python_repr(1e15), "1000000000000000.0");
  EXPECT_EQ(python_repr(1e16), "1e+16");
  EXPECT_EQ(python_repr(123456789012345678.0), "1.2345678901234568e+17");
  EXPECT_EQ(python_repr(2.0 / 3.0), "0.6666666666666666");
  EXPECT_EQ(python_repr(5e-324), "5e-324");
  EXPECT_EQ(python_repr(1.7976931348623157e308), "1.7976931348623157e+308");
  EXPECT_EQ(python_repr(-2.5), "-2.5");
  EXPECT_EQ(python_repr(std::numeric_limits<double>::infinity()), "inf");
  EXPECT_EQ(python_repr(-std::numeric_limits<double>::infinity()), "-inf");
  EXPECT_EQ(python_repr(std::numeric_limits<double>::quiet_NaN()), "nan");
}

TEST(Tsv, TheReportsRows) {
  const auto lines = lines_of(tsv(test::diverged()));
  ASSERT_EQ(lines.size(), 5u);
  EXPECT_EQ(lines[0], "B3.41 Post-WO Collapse Isolation (prefill_last vs decode0)");
  EXPECT_EQ(lines[1],
            "prompt\texp\tfirst_mismatch_stage\tffn_norm_mae\tmlp_out_mae\tx_after_mlp_mae\tx_out_mae\tfinal_rms_mae\tlm_head_"
            "in_mae\t"
            "logits_mean_delta\tprefill_last_top1\tdecode0_top1\tcollapse_96965\tfirst_mismatch_layer\tfirst_mismatch_pos");
  EXPECT_EQ(lines[2], "p0_short\tE1\tffn_norm\t0.1533\t0.359\t0.3593\t0.3593\t1e-05\t1e-05\t-0.125\t96965\t96965\ttrue\t0\t2");
  EXPECT_EQ(lines[3], "p4_sys\tE1\tffn_norm\t0.1675\t0.3159\t0.3173\t0.3173\t1e-05\t1e-05\t-0.125\t93590\t96965\ttrue\t0\t40");
  EXPECT_EQ(lines[4],
            "p6_long\tE1\tffn_norm\t0.1539\t0.6088\t0.6086\t0.6086\t1e-05\t1e-05\t-0.125\t99668\t96965\ttrue\t0\t384");
  EXPECT_EQ(tsv(test::diverged()).back(), '\n');
}

TEST(Tsv, HealthyAndUnjudgedRows) {
  EXPECT_EQ(lines_of(tsv(test::healthy()))[2],
            "p0_short\tE1\tNONE\t0.0\t0.0\t0.0\t0.0\t0.0\t0.0\t0.0\t11\t11\tfalse\tNone\tNone");
  EXPECT_EQ(lines_of(tsv(test::misaligned()))[2],
            "theirs\tE1\tINCONCLUSIVE\tNone\tNone\tNone\tNone\tNone\tNone\tNone\tNone\tNone\tNone\tNone\tNone");
}

TEST(Tsv, TheColumnIsNamedAfterTheToken) {
  isolate::Outcome outcome = test::healthy();
  outcome.collapse.id = 4093;
  EXPECT_NE(tsv(outcome).find("\tcollapse_4093\t"), std::string::npos);
}

TEST(VerdictJson, HoldsWhatTheSchemaSays) {
  const auto json = nlohmann::json::parse(verdict_json(test::diverged()));
  EXPECT_EQ(json["schema"], 1);
  EXPECT_EQ(json["verdict"], "DIVERGED");
  EXPECT_EQ(json["reason"], "above_threshold");
  EXPECT_EQ(json["exit_code"], 1);
  EXPECT_EQ(json["experiment"],
            nlohmann::json::parse(R"({"id":"b3_41","exp":"E1","flags":["token","position","history","routes"],"shift":null})"));
  EXPECT_EQ(json["model"]["path"], "models/greta-demo.gguf");
  EXPECT_EQ(json["build"], "0.1.0");
  EXPECT_EQ(json["arms"]["b"]["schedule"]["p0_short"], nlohmann::json::parse("[2,1]"));
  EXPECT_EQ(json["arms"]["a"]["routes"]["rmsnorm"], "reference");
  EXPECT_EQ(json["arms"]["a"]["threads"], 2);
  EXPECT_EQ(json["arms"]["a"]["host"], "node7");
  EXPECT_EQ(json["keys"], nlohmann::json::parse(R"({"compared":1449,"expected":1449})"));
  EXPECT_EQ(json["control"].size(), 2u);
  EXPECT_EQ(json["control"][0]["stage"], "ffn_norm");
  EXPECT_EQ(json["control"][0]["magnitude"], "1 ulp");
  EXPECT_EQ(json["control"][0]["found"], true);
  EXPECT_EQ(json["control"][0]["kind"], "rerun");
  const auto& prompt = json["prompts"][1];
  EXPECT_EQ(prompt["id"], "p4_sys");
  EXPECT_EQ(prompt["n_tokens"], 41);
  EXPECT_EQ(prompt["verdict"], "DIVERGED");
  EXPECT_EQ(prompt["first"],
            nlohmann::json::parse(R"({"position":40,"layer":0,"stage":"ffn_norm","mae":0.1675,"rel":0.25,"bound":null})"));
  EXPECT_EQ(prompt["minimal"].size(), 1u);
  EXPECT_EQ(prompt["table"]["ffn_norm_mae"], 0.1675);
  EXPECT_EQ(prompt["table"]["collapse_96965"], true);
  EXPECT_EQ(prompt["table"]["first_mismatch_pos"], 40);
  EXPECT_EQ(prompt["top1"], nlohmann::json::parse(R"({"a":93590,"b":96965})"));
  EXPECT_EQ(prompt["gap"], 2.25);
  EXPECT_EQ(json["collapse"], nlohmann::json::parse(R"({"value":true,"token":96965})"));
  EXPECT_EQ(json["cause"],
            nlohmann::json::parse(R"({"state":"unexplained","name":null,"params":{},"confirmed":false,"candidates":[],"at":null,
                                     "substitution":null,"others":[]})"));
  EXPECT_EQ(json["thresholds"], nlohmann::json::parse(R"({"mae":1e-6,"rel":1e-6})"));
  EXPECT_EQ(json["next_command"], "greta isolate --fault b3_41 --layers 0 --plan float64");
  EXPECT_EQ(json.size(), 15u);
}

TEST(VerdictJson, MissingAndInfiniteNumbersAreNull) {
  isolate::Outcome outcome = test::misaligned();
  outcome.prompts[0].first = test::diverged().prompts[0].first;
  outcome.prompts[0].first->difference.mae = std::numeric_limits<double>::infinity();
  const auto json = nlohmann::json::parse(verdict_json(outcome));
  EXPECT_TRUE(json["prompts"][0]["table"]["ffn_norm_mae"].is_null());
  EXPECT_TRUE(json["prompts"][0]["first"]["mae"].is_null());
  EXPECT_TRUE(json["prompts"][0]["top1"]["a"].is_null());
  EXPECT_TRUE(json["prompts"][0]["gap"].is_null());
  EXPECT_EQ(json["exit_code"], 2);
}

TEST(Markdown, GoldenReports) {
  expect_golden("report_diverged.md", markdown(test::diverged(), Language::both));
  expect_golden("report_healthy.md", markdown(test::healthy(), Language::both));
  expect_golden("report_vacuous.md", markdown(test::vacuous(), Language::both));
  expect_golden("report_misaligned.md", markdown(test::misaligned(), Language::both));
}

TEST(Markdown, SectionsStandInTheReportsOrder) {
  const std::string text = markdown(test::diverged(), Language::both);
  std::size_t at = 0;
  for (const char* part :
       {"# B3.41 Post-WO Collapse Isolation (prefill_last vs decode0)\n", "## Resumen Ejecutivo", "## Contexto",
        "## Metodología", "## Resultados", "Source: ", "### Interpretación", "## Comandos", "## Conclusión", "## Próximo paso",
        "## Executive Summary", "## Context", "## Method", "## Results", "Source: ", "### Interpretation",
        "## Commands that reproduce the run", "## Conclusion", "## Next step"}) {
    const auto found = text.find(part, at);
    ASSERT_NE(found, std::string::npos) << part;
    at = found + 1;
  }
}

TEST(Markdown, TheReportsTableWithThreeDigits) {
  const std::string text = markdown(test::diverged(), Language::english);
  EXPECT_NE(text.find("| prompt | exp | first_mismatch_stage | ffn_norm_mae | mlp_out_mae | x_after_mlp_mae | x_out_mae | "
                      "prefill_last_top1 | decode0_top1 | collapse_96965 |\n|---|---|---|---:|---:|---:|---:|---:|---:|---|\n"
                      "| p0_short | E1 | ffn_norm | 1.533e-01 | 3.590e-01 | 3.593e-01 | 3.593e-01 | 96965 | 96965 | true |\n"
                      "| p4_sys | E1 | ffn_norm | 1.675e-01 | 3.159e-01 | 3.173e-01 | 3.173e-01 | 93590 | 96965 | true |\n"
                      "| p6_long | E1 | ffn_norm | 1.539e-01 | 6.088e-01 | 6.086e-01 | 6.086e-01 | 99668 | 96965 | true |\n"),
            std::string::npos);
  EXPECT_EQ(text.find("Resumen"), std::string::npos);
  EXPECT_EQ(markdown(test::diverged(), Language::spanish).find("Summary"), std::string::npos);
}

TEST(Text, GoldenSummaries) {
  expect_golden("text_diverged.txt", text(test::diverged()));
  expect_golden("text_healthy.txt", text(test::healthy()));
  expect_golden("text_vacuous.txt", text(test::vacuous()));
  expect_golden("text_misaligned.txt", text(test::misaligned()));
}

TEST(Log, GoldenLog) {
  const isolate::Outcome outcome = test::diverged();
  expect_golden("log_diverged.log", prompt_log(outcome, outcome.prompts[0]));
}

TEST(Reports, EveryReasonIsExplainedInBothLanguages) {
  for (int i = 0; i <= static_cast<int>(isolate::Reason::no_prompts); ++i) {
    isolate::Outcome outcome = test::misaligned();
    outcome.judgement.reason = outcome.prompts[0].judgement.reason = static_cast<isolate::Reason>(i);
    for (const Language language : {Language::spanish, Language::english}) {
      const std::string report = markdown(outcome, language);
      EXPECT_NE(report.find(isolate::name(outcome.judgement.reason)), std::string::npos);
      EXPECT_EQ(report.find("{}"), std::string::npos);
      EXPECT_EQ(report.find("  "), std::string::npos) << report;
    }
    EXPECT_GT(text(outcome).size(), 100u);
  }
}

TEST(Reports, NoPromptsAtAllIsStillAReport) {
  isolate::Outcome outcome = test::frame();
  outcome.judgement = {isolate::Reason::no_prompts, "no prompt was compared"};
  EXPECT_NE(markdown(outcome, Language::both).find("VACUOUS"), std::string::npos);
  EXPECT_NE(text(outcome).find("no_prompts"), std::string::npos);
  EXPECT_EQ(lines_of(tsv(outcome)).size(), 2u);
}

TEST(Reports, LanguagesByName) {
  EXPECT_EQ(language_from_name("es"), Language::spanish);
  EXPECT_EQ(language_from_name("both"), Language::both);
  EXPECT_FALSE(language_from_name("fr"));
}

}  // namespace
}  // namespace greta::report
