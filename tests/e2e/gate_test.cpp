// `greta gate` from the command line: what passes, fails, cannot be told; baselines, reports, bad input.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/support/command.h"

namespace greta::test {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

class Gate : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryDirectory();
    for (const std::string seed : {"3", "4"})
      ASSERT_EQ(
          greta({"models", "synth", "--shape", "tiny", "--layers", "2", "--seed", seed, "--out", at("m" + seed + ".gguf")})
              .exit_code,
          0);
    write_file(at("p.txt"), "The quick brown fox jumps over the lazy dog");
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string at(const std::string& name) { return folder_->path() / name; }

  /// A gate on the model of seed 3; `gate` are more keys of [gate].
  static std::string config(const std::string& gate, const std::string& thresholds = "") {
    write_file(at("g.toml"), "[gate]\nid = \"g\"\nmodel = \"m3.gguf\"\nprompt_files = [\"p.txt\"]\n" + gate +
                                 "\n[thresholds]\n" + thresholds);
    return at("g.toml");
  }
  static CommandResult run(const std::string& config, std::vector<std::string> extra = {}) {
    extra.insert(extra.begin(), {"gate", config, "--json"});
    return greta(extra);
  }
  static Json check(const CommandResult& result, const std::string& what) {
    const Json read = Json::parse(result.out);
    for (const auto& one : read["checks"])
      if (one["what"] == what) return one;
    return {};
  }
  static inline TemporaryDirectory* folder_ = nullptr;
};

constexpr const char* kFault = "arm_b = \"fault=rmsnorm-epsilon@decode:layer=1:stage=ffn_norm:eps=1e-4\"\n";

TEST_F(Gate, AHealthyComparisonPassesWithAllFiguresAtNoDifference) {
  const CommandResult result = run(config("span = 3", "p99 = 0\nmax = 0\ntop1_agreement = 1\nkl = 0\nkl_max = 0\n"));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json read = Json::parse(result.out);
  EXPECT_EQ(read["verdict"], "AGREE");
  EXPECT_EQ(read["prompts"][0]["positions"], 3);  // every decoded one, not decode0 alone
  EXPECT_GT(read["prompts"][0]["rows"], 100);
  EXPECT_EQ(read["controls"]["found"], read["controls"]["planted"]);
  EXPECT_THAT(result.err, HasSubstr("gate g: pass, exit 0"));
}

TEST_F(Gate, AFaultFailsAndTheCommandThatIsNamedFindsIt) {
  const CommandResult result = run(config(kFault, "max = 1\nkl = 1e9\n"));
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_EQ(check(result, "verdict")["result"], "fail");
  EXPECT_EQ(check(result, "max")["result"], "pass");
  const std::string before = "reproduce    greta ";
  ASSERT_THAT(result.err, HasSubstr(before + "isolate --model "));
  const std::size_t begin = result.err.find(before) + before.size();
  const std::string command = result.err.substr(begin, result.err.find('\n', begin) - begin);
  const CommandResult again = run_command({"bash", "-c", "exec '" GRETA_BINARY "' " + command}, {}, folder_->path());
  EXPECT_EQ(again.exit_code, 1) << command << "\n" << again.err;
  EXPECT_THAT(again.err, HasSubstr("ffn_norm, layer 1"));
}

TEST_F(Gate, AnAllowedReasonLeavesTheThresholdsToJudge) {
  const std::string allow = std::string(kFault) + "allow = [\"above_threshold\"]\n";
  const CommandResult loose = run(config(allow, "max = 1e3\n"));
  EXPECT_EQ(loose.exit_code, 0) << loose.err;
  EXPECT_EQ(check(loose, "verdict")["result"], "skipped");
  const double found = check(loose, "max")["value"];
  EXPECT_GT(found, 1e-6);
  EXPECT_EQ(run(config(allow, "max = " + std::to_string(found / 2) + "\n")).exit_code, 1);
  const CommandResult kl = run(config(allow, "kl = 0\n"));
  EXPECT_EQ(kl.exit_code, 1) << kl.err;
  EXPECT_GT(check(kl, "kl")["value"], 0);
}

TEST_F(Gate, OtherRoutesPassWithinTheirBoundsAndHaveFigures) {
  const CommandResult result = run(config("arm_b = \"kv=f16\"\nspan = 2", "max = 0.1\nkl = 1e-3\n"));
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json figures = Json::parse(result.out)["prompts"][0];
  EXPECT_EQ(figures["reason"], "within_bounds");
  EXPECT_GT(figures["max"], 0);
  EXPECT_GE(figures["max"], figures["p99"]);
  EXPECT_GE(figures["kl_max"], figures["kl"]);
  EXPECT_EQ(figures["lower_bound"], 0);
}

TEST_F(Gate, OtherWeightsCannotBeToldUnlessTheyAreAllowed) {
  const std::string other = "arm_b = \"model=m4.gguf\"\n";
  const CommandResult refused = run(config(other));
  EXPECT_EQ(refused.exit_code, 2) << refused.err;
  EXPECT_EQ(check(refused, "verdict")["result"], "cannot_tell");
  const CommandResult allowed = run(config(other + "allow = [\"weights_differ\"]\n", "kl = 1e-9\n"));
  EXPECT_EQ(allowed.exit_code, 1) << allowed.err;  // other weights give other tokens
  EXPECT_EQ(check(allowed, "kl")["result"], "fail");
}

TEST_F(Gate, DriftAndAFaultWithoutEffectCannotBeTold) {
  write_file(at("e0.toml"), "id = \"e0\"\nexp = \"E0\"\n[[prompts]]\nid = \"p\"\nfile = \"p.txt\"\n");
  write_file(at("g0.toml"), "[gate]\nid = \"g\"\nexperiment = \"e0.toml\"\nmodel = \"m3.gguf\"\n");
  const CommandResult drift = run(at("g0.toml"));
  EXPECT_EQ(drift.exit_code, 2) << drift.err;
  EXPECT_THAT(drift.err, HasSubstr("EXPECTED_DRIFT"));
  const CommandResult idle = run(config("arm_b = \"fault=rmsnorm-epsilon@decode:layer=1:stage=ffn_norm:eps=1e-5\""));
  EXPECT_EQ(idle.exit_code, 2) << idle.err;
}

TEST_F(Gate, ABaselineIsWrittenHeldToAndRefusedForAnotherModelOrExperiment) {
  const std::string arm = "arm_b = \"kv=f16\"\nbaseline = \"base.json\"\n",
                    limits = "max_vs_baseline = 1.01\nkl_vs_baseline = 1.01\n";
  std::filesystem::remove(at("base.json"));
  const CommandResult none = run(config(arm, limits));
  EXPECT_EQ(none.exit_code, 2);
  EXPECT_THAT(none.err, HasSubstr("base.json': there is none; write one with --write-baseline"));
  const CommandResult written = run(config(arm, limits), {"--write-baseline"});
  ASSERT_EQ(written.exit_code, 0) << written.err;
  EXPECT_EQ(check(written, "max_vs_baseline")["result"], "skipped");
  const CommandResult held = run(config(arm, limits));
  EXPECT_EQ(held.exit_code, 0) << held.err;
  EXPECT_EQ(check(held, "max_vs_baseline")["result"], "pass");
  EXPECT_EQ(run(config(arm, "max_vs_baseline = 0.5\n")).exit_code, 1);

  Json base = Json::parse(read_file(at("base.json")));
  base["prompts"][0]["kl"] = base["prompts"][0]["kl"].get<double>() / 2;
  write_file(at("base.json"), base.dump());
  const CommandResult worse = run(config(arm, limits));
  EXPECT_EQ(worse.exit_code, 1) << worse.err;
  EXPECT_EQ(check(worse, "kl_vs_baseline")["result"], "fail");
  EXPECT_EQ(check(worse, "max_vs_baseline")["result"], "pass");

  const CommandResult span = run(config(arm + "span = 2\n", limits));
  EXPECT_EQ(span.exit_code, 2);
  EXPECT_THAT(span.err, HasSubstr("a baseline of another comparison"));
  const CommandResult other_arm = run(config("arm_b = \"kv=q8_0\"\nbaseline = \"base.json\"\n", limits));
  EXPECT_EQ(other_arm.exit_code, 2);
  EXPECT_THAT(other_arm.err, HasSubstr("arm_b is"));
  std::string text = read_file(config(arm, limits));
  write_file(at("g4.toml"), text.replace(text.find("m3.gguf"), 7, "m4.gguf"));
  const CommandResult model = run(at("g4.toml"));
  EXPECT_EQ(model.exit_code, 2);
  EXPECT_THAT(model.err, HasSubstr("the model's hash is"));
}

TEST_F(Gate, AFailingRunLeavesTheBaselineAsItWas) {
  write_file(at("kept.json"), "as it was");
  EXPECT_EQ(run(config(std::string(kFault) + "baseline = \"kept.json\"\n", "max = 1\n"), {"--write-baseline"}).exit_code, 1);
  EXPECT_EQ(read_file(at("kept.json")), "as it was");
  const CommandResult broken = run(config("baseline = \"kept.json\"\n", "max = 1\n"));
  EXPECT_EQ(broken.exit_code, 2);
  EXPECT_EQ(std::count(broken.err.begin(), broken.err.end(), '\n'), 1) << broken.err;
}

TEST_F(Gate, ARunDirectoryIsHeldToTheSameFigures) {
  const CommandResult here = run(config("arm_b = \"kv=f16\"\nspan = 2", "kl = 1\nmax = 1\n"));
  ASSERT_EQ(here.exit_code, 0) << here.err;
  for (const bool full : {true, false}) {
    std::vector<std::string> arguments = {
        "isolate", at("m3.gguf"), "--prompt-file",          at("p.txt"), "--arm-b", "kv=f16", "--span",
        "2",       "--out",       at(full ? "full" : "run")};
    if (full) arguments.emplace_back("--trace-full");
    ASSERT_EQ(greta(arguments).exit_code, 0);
  }
  write_file(at("full.toml"), "[gate]\nid = \"g\"\nrun = \"full\"\n[thresholds]\nkl = 1\nmax = 1\n");
  const CommandResult full = run(at("full.toml"));
  ASSERT_EQ(full.exit_code, 0) << full.err;
  for (const char* figure : {"kl", "kl_max", "top1_agreement", "positions", "rows"})
    EXPECT_EQ(Json::parse(full.out)["prompts"][0][figure], Json::parse(here.out)["prompts"][0][figure]) << figure;
  write_file(at("run.toml"), "[gate]\nid = \"g\"\nrun = \"run\"\n[thresholds]\nkl = 1\n");
  const CommandResult without = run(at("run.toml"));
  EXPECT_EQ(without.exit_code, 2) << without.err;
  EXPECT_THAT(without.err, HasSubstr("--trace-full"));
  write_file(at("run/report.md"), "altered");
  const CommandResult altered = run(at("run.toml"));
  EXPECT_EQ(altered.exit_code, 2);
  EXPECT_THAT(altered.err, HasSubstr("report.md"));
}

TEST_F(Gate, ReportsAreWrittenAndSayWhatTheExitCodeSays) {
  const CommandResult result =
      run(config(kFault, "max = 1\n"), {"--junit", at("j.xml"), "--markdown", at("m.md"), "--out", at("gate-run")});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(read_file(at("j.xml")), HasSubstr("failures=\"1\" errors=\"0\""));
  EXPECT_THAT(read_file(at("m.md")), HasSubstr("## Gate g: fail"));
  EXPECT_THAT(read_file(at("gate-run/verdict.json")), HasSubstr("\"DIVERGED\""));
  const CommandResult parsed =
      run_command({"python3", "-c", "import sys, xml.dom.minidom as m; m.parse(sys.argv[1])", at("j.xml")});
  EXPECT_EQ(parsed.exit_code, 0) << parsed.err;
}

TEST_F(Gate, BadInputIsOneLine) {
  write_file(at("empty.json"), "");
  write_file(at("bad.toml"), "[gate]\nid = \"g\"\nrun = \"nowhere\"\n");
  write_file(at("torn.toml"), "[gate\n");
  const std::vector<std::vector<std::string>> all = {
      {at("missing.toml")}, {at("torn.toml")}, {folder_->path()}, {at("bad.toml")}, {config("modle = \"x\"")},
  };
  for (const auto& arguments : all) {
    const CommandResult result = run(arguments[0]);
    EXPECT_EQ(result.exit_code, 2) << arguments[0];
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_THAT(result.err, HasSubstr("greta: error: "));
  }
  for (const char* keys : {"baseline = \"empty.json\"", "model = \"m3.gguf\"\nmodel = \"x\"", "arm_b = \"kv=f99\"",
                           "span = 99999999", "layers = \"77\"", "stages = \"nope\""}) {
    const CommandResult result = run(config(keys));
    EXPECT_EQ(result.exit_code, 2) << keys;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
  const CommandResult no_baseline = run(config(""), {"--write-baseline"});
  EXPECT_EQ(no_baseline.exit_code, 2);
  EXPECT_THAT(no_baseline.err, HasSubstr("names no baseline"));
  EXPECT_EQ(run(config(""), {"--junit", at("no/such/j.xml")}).exit_code, 2);
}

}  // namespace
}  // namespace greta::test
