// What a gate writes: JUnit XML, Markdown, JSON, the baseline and how a bad one is refused.
#include "report/gate.h"

#include <limits>
#include <nlohmann/json.hpp>

#include "report/gate_baseline.h"
#include "report/junit.h"
#include "tests/support/command.h"
#include "tests/support/one_line_error.h"

namespace greta::report {
namespace {

using isolate::Check;
using isolate::CheckResult;
using isolate::GateOutcome;
using testing::HasSubstr;

GateOutcome outcome() {
  GateOutcome out;
  out.id = "g";
  out.run.judgement = {isolate::Reason::within_bounds, "p: said"};
  out.run.model_hash = "00ff";
  out.run.build = "0.1.0";
  out.run.date = "2026-01-02";
  out.run.command = "greta isolate m.gguf";
  out.run.identity = {{"experiment", "e"}};
  isolate::GatePrompt prompt{"p", {isolate::Reason::within_bounds, "said"}, {}};
  prompt.figures.id = "p";
  prompt.figures.rows = 12;
  prompt.figures.p99 = 0.125;
  prompt.figures.max = 0.1;
  prompt.figures.positions = 4;
  prompt.figures.top1_agreement = 0.75;
  out.run.prompts = {prompt};
  out.checks = {{"", "controls", CheckResult::pass, 3, 3, {}, "3 of 3 found"},
                {"p", "max", CheckResult::fail, 0.1, 0.05, 0.04, "0.1 is more than 0.05"},
                {"p", "kl", CheckResult::cannot_tell, {}, 1, {}, "the figure was not measured"},
                {"p", "verdict", CheckResult::skipped, {}, {}, {}, "allowed"}};
  return out;
}

TEST(XmlText, EscapesWhatXmlWouldRead) {
  EXPECT_EQ(xml_text("a & b < c > d \" e"), "a &amp; b &lt; c &gt; d &quot; e");
  EXPECT_EQ(xml_text("]]>"), "]]&gt;");
  EXPECT_EQ(xml_text("caf\xC3\xA9 \xF0\x9F\x98\x80"), "caf\xC3\xA9 \xF0\x9F\x98\x80");
  EXPECT_EQ(xml_text("a\tb\nc\rd"), "a&#9;b&#10;c&#13;d");
  EXPECT_EQ(xml_text(""), "");
}

TEST(XmlText, ReplacesWhatXmlCannotHold) {
  EXPECT_EQ(xml_text(std::string("a\0b\x1b[0m\x1f", 8)),
            "a\xEF\xBF\xBD"
            "b\xEF\xBF\xBD[0m\xEF\xBF\xBD");
  EXPECT_EQ(xml_text("\xEF\xBF\xBE|\xEF\xBF\xBF"), "\xEF\xBF\xBD|\xEF\xBF\xBD");  // U+FFFE, U+FFFF
  EXPECT_EQ(xml_text("\xff|\xC3"), "\xEF\xBF\xBD|\xEF\xBF\xBD");                  // no UTF-8; cut short
  EXPECT_EQ(xml_text("\xED\xA0\x80"), "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");    // a surrogate
  EXPECT_EQ(xml_text("\x7f"), "\x7f");                                            // allowed, if discouraged
}

TEST(Junit, HasATestcaseForEveryCheck) {
  EXPECT_EQ(gate_junit(outcome()),
            R"(<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="greta gate" tests="4" failures="1" errors="1" skipped="1">
  <testsuite name="g" tests="4" failures="1" errors="1" skipped="1">
    <testcase classname="greta.gate.g" name="controls"/>
    <testcase classname="greta.gate.g" name="p: max">
      <failure message="max 0.1 (wanted &lt;= 0.05; baseline 0.04): 0.1 is more than 0.05"/>
    </testcase>
    <testcase classname="greta.gate.g" name="p: kl">
      <error message="kl (wanted &lt;= 1): the figure was not measured"/>
    </testcase>
    <testcase classname="greta.gate.g" name="p: verdict">
      <skipped message="verdict: allowed"/>
    </testcase>
  </testsuite>
</testsuites>
)");
}

TEST(GateMarkdown, ACellCannotBreakItsTable) {
  GateOutcome gate = outcome();
  gate.checks[1].prompt = "a|b\nc";
  const std::string text = gate_markdown(gate);
  EXPECT_THAT(text, HasSubstr("## Gate g: fail\n"));
  EXPECT_THAT(text, HasSubstr("\n| a\\|b c | max | 0.1 | <= 0.05 | 0.04 | fail | 0.1 is more than 0.05 |\n"));
  EXPECT_THAT(text, HasSubstr("\n| p | kl | - | <= 1 | - | cannot tell | the figure was not measured |\n"));
  EXPECT_THAT(text, HasSubstr("```sh\ngreta isolate m.gguf\n```\n"));
  gate.checks[1].what = "top1_agreement_vs_baseline";
  EXPECT_THAT(gate_markdown(gate), HasSubstr("| >= 0.05 |"));
}

TEST(GateJson, SaysAllAndIsJsonWhateverTheFigures) {
  GateOutcome gate = outcome();
  gate.checks[1].value = std::numeric_limits<double>::infinity();
  gate.run.prompts[0].figures.max = std::numeric_limits<double>::quiet_NaN();
  const auto read = nlohmann::json::parse(gate_json(gate));
  EXPECT_EQ(read["result"], "fail");
  EXPECT_EQ(read["exit_code"], 1);
  EXPECT_EQ(read["checks"][1]["value"], "Infinity");
  EXPECT_EQ(read["checks"][2]["result"], "cannot_tell");
  EXPECT_EQ(read["prompts"][0]["max"], "NaN");
  EXPECT_EQ(read["prompts"][0]["kl"], nullptr);
}

class BaselineFile : public ::testing::Test {
 protected:
  std::filesystem::path write(const std::string& text) {
    const auto file = folder_.path() / "b.json";
    test::write_file(file, text);
    return file;
  }
  void refused(const std::string& text, const std::vector<std::string>& parts) {
    test::expect_error([&] { (void)load_baseline(write(text)); }, parts);
  }
  test::TemporaryDirectory folder_;
};

TEST_F(BaselineFile, ReadsWhatWasWritten) {
  const isolate::Baseline read = load_baseline(write(baseline_json(outcome())));
  EXPECT_EQ(read.gate, "g");
  EXPECT_EQ(read.model_hash, "00ff");
  EXPECT_EQ(read.build, "0.1.0");
  EXPECT_EQ(read.date, "2026-01-02");
  EXPECT_EQ(read.identity, (isolate::Identity{{"experiment", "e"}}));
  ASSERT_EQ(read.prompts.size(), 1u);
  EXPECT_EQ(read.prompts[0].id, "p");
  EXPECT_EQ(read.prompts[0].rows, 12);
  EXPECT_EQ(read.prompts[0].p99, 0.125);
  EXPECT_EQ(read.prompts[0].max, 0.1);  // every digit
  EXPECT_EQ(read.prompts[0].top1_agreement, 0.75);
  EXPECT_EQ(read.prompts[0].kl, std::nullopt);
}

TEST_F(BaselineFile, HoldsNoFigureThatNothingCanBeHeldTo) {
  for (const double value : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    GateOutcome gate = outcome();
    gate.run.prompts[0].figures.kl = value;
    test::expect_error([&] { (void)baseline_json(gate); }, {"prompt 'p'", "kl is"});
  }
}

TEST_F(BaselineFile, IsRefusedInOneLine) {
  test::expect_error([&] { (void)load_baseline(folder_.path() / "none.json"); }, {"none.json", "--write-baseline"});
  refused("", {"b.json", "--write-baseline"});
  refused("{}", {"b.json", "schema 1"});
  refused("[1]", {"schema 1"});
  refused(R"({"schema":2})", {"schema 1"});
  refused(R"({"schema":1})", {"gate is no text"});
  const std::string head =
      R"({"schema":1,"gate":"g","model_hash":"0","build":"1","date":"d","comparison":[{"what":"a","is":"b"}],)";
  refused(head + R"("prompts":[]})", {"prompts is no array of objects"});
  refused(head + R"("prompts":[{"max":1}]})", {"prompts[0]", "no id"});
  refused(head + R"("prompts":[{"id":"p","max":"NaN"}]})", {"prompts[0]", "max is nan"});
  refused(head + R"("prompts":[{"id":"p","max":-1}]})", {"max is -1"});
  refused(head + R"("prompts":[{"id":"p","max":"big"}]})", {"max"});
  refused(head + R"("prompts":[{"id":"p"},{"id":"p"}]})", {"'p' stands twice"});
}

}  // namespace
}  // namespace greta::report
