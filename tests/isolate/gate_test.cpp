// A gate: what its config may say, and what passes, fails and cannot be told.
#include "isolate/gate.h"

#include <cmath>
#include <limits>

#include "tests/support/one_line_error.h"

namespace greta::isolate {
namespace {

using test::expect_error;

const std::string kHead = "[gate]\nid = \"g\"\nbaseline = \"b.json\"\n";

GateConfig parse(const std::string& text) { return parse_gate(text, "g.toml", "/dir"); }
void refused(const std::string& text, const std::vector<std::string>& parts) {
  expect_error([&] { (void)parse(text); }, parts);
}

TEST(GateConfig, ReadsWhatItIsGiven) {
  const GateConfig config = parse(
      "[gate]\nid = \"nightly\"\nmodel = \"m.gguf\"\nprompt_files = [\"a.txt\", \"/b.txt\"]\narm_b = \"kv=f16\"\nspan = "
      "4\nbounds = false\n"
      "baseline = \"b.json\"\nallow = [\"weights_differ\"]\n[thresholds]\nkl = 0.5\nmax_vs_baseline = 2\ntop1_agreement = 1\n");
  EXPECT_EQ(config.model, "/dir/m.gguf");
  EXPECT_EQ(config.prompt_files, (std::vector<std::filesystem::path>{"/dir/a.txt", "/b.txt"}));
  EXPECT_EQ(config.baseline, "/dir/b.json");
  EXPECT_EQ(config.arm_b, "kv=f16");
  EXPECT_EQ(config.span, 4);
  EXPECT_FALSE(config.bounds);
  EXPECT_EQ(config.allow, std::vector{Reason::weights_differ});
  ASSERT_EQ(config.limits.size(), 3u);
  EXPECT_EQ(config.limits[0].figure, Figure::max);
  EXPECT_TRUE(config.limits[0].of_baseline);
  EXPECT_EQ(config.limits[0].value, 2);
  EXPECT_EQ(config.limits[1].figure, Figure::top1_agreement);
  EXPECT_EQ(config.limits[2].figure, Figure::kl);
  EXPECT_FALSE(config.limits[2].of_baseline);
}

TEST(GateConfig, RefusesWhatWouldSilentlyHoldNothing) {
  refused("", {"g.toml", "no [gate]"});
  refused("[gate]\n", {"no id"});
  refused("[gate]\nid = \"../x\"\n", {"'../x'"});
  refused("[gate]\nid = \"g\"\nmodle = \"m\"\n", {"unknown key 'modle'", "did you mean 'model'"});
  refused(kHead + "[thresholds]\nmaxx = 1\n", {"unknown key 'maxx'", "did you mean 'max'"});
  refused(kHead + "[threshold]\nmax = 1\n", {"unknown key 'threshold'", "did you mean 'thresholds'"});
  refused(kHead + "[thresholds]\nmax = nan\n", {"max"});
  refused(kHead + "[thresholds]\nmax = -1\n", {"max = -1"});
  refused(kHead + "[thresholds]\nmax = \"1\"\n", {"max (line 5) is not a number"});
  refused(kHead + "[thresholds]\ntop1_agreement = 99\n", {"top1_agreement = 99", "0 to 1"});
  refused("[gate]\nid = \"g\"\n[thresholds]\nkl_vs_baseline = 2\n", {"kl_vs_baseline needs a baseline"});
  refused(kHead + "allow = [\"above_threshold\"]\n", {"allow", "no [thresholds]"});
  refused(kHead + "allow = [\"control_not_found\"]\n[thresholds]\nmax = 1\n", {"'control_not_found' cannot be allowed"});
  refused(kHead + "allow = [\"misaligned\"]\n[thresholds]\nmax = 1\n", {"'misaligned' cannot be allowed"});
  refused(kHead + "allow = [\"as_designed\"]\n[thresholds]\nmax = 1\n", {"'as_designed' cannot be allowed"});
  refused(kHead + "run = \"d\"\nspan = 2\n", {"run names a comparison that has been computed", "span"});
  refused(kHead + "span = 0\n", {"span = 0"});
  refused(kHead + "prompt_files = \"a\"\n", {"prompt_files", "not an array"});
  refused(kHead + "prompt_files = [1]\n", {"prompt_files[0]"});
  refused(kHead + "model = \"\"\n", {"model is empty"});
  refused(kHead + "model = \"x\\u0000y\"\n", {"model = 'x\\x00y' has a NUL"});
  refused(kHead + "prompt_files = [\"x\\u0000y\"]\n", {"prompt_files = 'x\\x00y' has a NUL"});
  refused("[gate\n", {"line 1"});
  refused("[gate]\nid = \"\xff\"\n", {"invalid UTF-8 at byte 13"});
}

PromptFigures figures(double max) {
  PromptFigures out;
  out.id = "p";
  out.rows = 100;
  out.positions = 4;
  out.p99 = max / 2;
  out.max = max;
  out.top1_agreement = 0.75;
  out.kl = 0.01;
  out.kl_max = 0.02;
  return out;
}

GateRun run(Reason reason, double max = 0) {
  GateRun out;
  out.judgement = {reason, "p: said"};
  out.model_hash = "00ff";
  out.controls = out.controls_found = 3;
  out.identity = {{"experiment", "e"}, {"prompt p", "E1"}};
  out.prompts = {{"p", {reason, "said"}, figures(max)}};
  return out;
}

GateConfig config(const std::vector<Limit>& limits, const std::vector<Reason>& allow = {}) {
  GateConfig out;
  out.id = "g";
  out.baseline = "b.json";
  out.limits = limits;
  out.allow = allow;
  return out;
}

Baseline baseline(double max) {
  Baseline out;
  out.gate = "g";
  out.model_hash = "00ff";
  out.identity = {{"experiment", "e"}, {"prompt p", "E1"}};
  out.prompts = {figures(max)};
  return out;
}

int code(const GateConfig& gate, const GateRun& one, std::optional<Baseline> base = {}) {
  return judge_gate(gate, one, std::move(base)).exit_code();
}

TEST(Gate, OnlyAnAgreementThatCouldHaveFailedPasses) {
  EXPECT_EQ(code(config({}), run(Reason::bit_equal)), 0);
  EXPECT_EQ(code(config({}), run(Reason::within_bounds)), 0);
  for (const Reason reason : {Reason::above_threshold, Reason::beyond_bound, Reason::nan_in_b})
    EXPECT_EQ(code(config({}), run(reason)), 1) << name(reason);
  for (const Reason reason : {Reason::as_designed, Reason::misaligned, Reason::below_threshold, Reason::weights_differ,
                              Reason::nan_in_a, Reason::arms_do_not_differ, Reason::fault_without_effect, Reason::all_zero})
    EXPECT_EQ(code(config({}), run(reason)), 2) << name(reason);
}

TEST(Gate, WithoutControlsNothingPasses) {
  GateRun lost = run(Reason::bit_equal);
  lost.controls_found = 2;
  EXPECT_EQ(code(config({}), lost), 2);
  lost.controls = lost.controls_found = 0;
  EXPECT_EQ(code(config({}), lost), 2);
  EXPECT_EQ(code(config({{Figure::max, false, 1}}, {Reason::above_threshold}), run(Reason::above_threshold)), 0);
  GateRun allowed = run(Reason::above_threshold);
  allowed.controls = allowed.controls_found = 0;
  EXPECT_EQ(code(config({{Figure::max, false, 1}}, {Reason::above_threshold}), allowed), 2);
}

TEST(Gate, WhatIsWrongWithTheWholeCannotBeTold) {
  GateRun one = run(Reason::bit_equal);
  one.judgement = {Reason::unreadable_lines, "3 lines"};
  const GateOutcome lines = judge_gate(config({}), one, {});
  EXPECT_EQ(lines.exit_code(), 2);
  EXPECT_EQ(lines.checks[1].what, "verdict");
  EXPECT_EQ(lines.checks[1].prompt, "");
  one = run(Reason::bit_equal);
  one.judgement = {Reason::no_prompts, ""};
  one.prompts.clear();
  EXPECT_EQ(code(config({}), one), 2);
}

TEST(Gate, AllowedReasonsLeaveTheFiguresToDecide) {
  for (const Reason reason : kAllowable) {
    EXPECT_EQ(code(config({{Figure::max, false, 0.5}}, {reason}), run(reason, 0.5)), 0) << name(reason);
    EXPECT_EQ(code(config({{Figure::max, false, 0.5}}, {reason}), run(reason, 0.6)), 1) << name(reason);
  }
  EXPECT_EQ(code(config({{Figure::max, false, 0.5}}, {Reason::below_threshold}), run(Reason::above_threshold, 0.1)), 1);
}

TEST(Gate, LimitsPassAtTheirValueAndFailBeyondIt) {
  for (const auto& [figure, good, bad] : std::vector<std::tuple<Figure, double, double>>{{Figure::max, 0.5, 0.49},
                                                                                         {Figure::p99, 0.25, 0.24},
                                                                                         {Figure::top1_agreement, 0.75, 0.76},
                                                                                         {Figure::kl, 0.01, 0.009},
                                                                                         {Figure::kl_max, 0.02, 0.019}}) {
    EXPECT_EQ(code(config({{figure, false, good}}), run(Reason::within_bounds, 0.5)), 0) << name(figure);
    EXPECT_EQ(code(config({{figure, false, bad}}), run(Reason::within_bounds, 0.5)), 1) << name(figure);
  }
}

TEST(Gate, LimitsRelativeToTheBaseline) {
  const GateConfig gate = config({{Figure::max, true, 1.5}});
  EXPECT_EQ(code(gate, run(Reason::within_bounds, 0.75), baseline(0.5)), 0);
  EXPECT_EQ(code(gate, run(Reason::within_bounds, 0.76), baseline(0.5)), 1);
  EXPECT_EQ(code(gate, run(Reason::bit_equal, 0), baseline(0)), 0);
  EXPECT_EQ(code(gate, run(Reason::within_bounds, 1e-9), baseline(0)), 1);  // it was bit-equal and is not
  Baseline lacking = baseline(0.5);
  lacking.prompts[0].max.reset();
  EXPECT_EQ(code(gate, run(Reason::within_bounds, 0.1), lacking), 2);
  EXPECT_EQ(code(config({{Figure::top1_agreement, true, 1}}), run(Reason::within_bounds), baseline(0)), 0);
  Baseline better = baseline(0);
  better.prompts[0].top1_agreement = 1;
  EXPECT_EQ(code(config({{Figure::top1_agreement, true, 1}}), run(Reason::within_bounds), better), 1);
  EXPECT_EQ(code(gate, run(Reason::within_bounds, 9)), 0) << "skipped: a baseline is about to be written";
}

TEST(Gate, FiguresThatAreNotKnownCannotBeTold) {
  GateRun one = run(Reason::within_bounds, std::numeric_limits<double>::quiet_NaN());
  EXPECT_EQ(code(config({{Figure::max, false, 1}}), one), 2);
  one.prompts[0].figures.kl.reset();
  EXPECT_EQ(code(config({{Figure::kl, false, 1}}), one), 2);
  one.prompts[0].figures.kl = std::numeric_limits<double>::infinity();
  EXPECT_EQ(code(config({{Figure::kl, false, 1e300}}), one), 1);
}

TEST(Gate, AFailureOutweighsWhatCannotBeTold) {
  GateRun one = run(Reason::below_threshold, 0.6);
  EXPECT_EQ(code(config({{Figure::max, false, 0.5}}), one), 1);
}

TEST(Gate, RefusesABaselineOfSomethingElse) {
  const auto judged = [&](const Baseline& base) { (void)judge_gate(config({}), run(Reason::bit_equal), base); };
  Baseline other = baseline(0);
  other.model_hash = "00fe";
  expect_error([&] { judged(other); }, {"b.json", "the model's hash is '00ff', the baseline's '00fe'", "--write-baseline"});
  other = baseline(0);
  other.gate = "h";
  expect_error([&] { judged(other); }, {"gate is 'g', the baseline's 'h'"});
  other = baseline(0);
  other.identity[1].second = "E0";
  expect_error([&] { judged(other); }, {"prompt p is 'E1', the baseline's 'E0'"});
  other.identity.pop_back();
  expect_error([&] { judged(other); }, {"prompt p is 'E1', the baseline's 'nothing'"});
  other = baseline(0);
  other.identity.emplace_back("prompt q", "E1");
  expect_error([&] { judged(other); }, {"prompt q is 'nothing', the baseline's 'E1'"});
}

TEST(Gate, IdentityTellsExperimentsApartAndIgnoresValues) {
  PromptPair pair;
  pair.a.prompt_id = pair.b.prompt_id = "p";
  pair.a.exp = pair.b.exp = "E1";
  pair.a.tokens = pair.b.tokens = {1, 2, 3, 9};
  pair.a.n_prompt = pair.b.n_prompt = 3;
  pair.a.plan = "reference";
  pair.a.schedule = {3, 4};
  pair.b.schedule = {2, 1, 1};
  const Identity identity = identity_of({pair}, "e");
  const auto differs = [&](auto change) {
    PromptPair changed = pair;
    change(changed);
    return identity_of({changed}, "e") != identity;
  };
  EXPECT_TRUE(identity_of({pair}, "f") != identity);
  EXPECT_TRUE(differs([](PromptPair& p) { p.a.tokens[1] = 7; }));
  EXPECT_TRUE(differs([](PromptPair& p) { p.a.plan = "q8"; }));
  EXPECT_TRUE(differs([](PromptPair& p) { p.b.routes = {{"matmul", "q8"}}; }));
  EXPECT_TRUE(differs([](PromptPair& p) { p.b.schedule.push_back(1); }));
  EXPECT_TRUE(differs([](PromptPair& p) { p.a.records.emplace_back(); }));
  EXPECT_FALSE(differs([](PromptPair& p) { p.a.tokens[3] = p.b.tokens[3] = 8; }));  // generated, so a value
  EXPECT_FALSE(differs([](PromptPair& p) { p.a.threads = 4; }));
  EXPECT_FALSE(differs([](PromptPair& p) { p.a.build = "other"; }));
}

}  // namespace
}  // namespace greta::isolate
