// Plan `q8` from the command line: equal bits of prefill and decode, its stages among the controls, faults on them, and what
// rounding to 8 bits costs.
#include <gtest/gtest.h>

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/command.h"
#include "trace/safetensors.h"

namespace greta::test {
namespace {

using nlohmann::json;

const std::set<std::string> kQuantised{"attn_norm_q8", "attn_out_q8", "ffn_norm_q8", "ffn_act_q8", "lm_head_in_q8"};

/// The demo model and a small synthetic one of Q4_0.
std::vector<std::string> models(const TemporaryDirectory& folder) {
  const std::string synthetic = folder.path() / "q4_0.gguf";
  EXPECT_EQ(greta({"models", "synth", "--shape", "tiny", "--type", "q4_0", "--seed", "4", "--out", synthetic}).exit_code, 0);
  return {GRETA_SOURCE_DIR "/models/greta-demo.gguf", synthetic};
}

/// Trained models of both 32-element formats, where the optional external fixtures are.
std::vector<std::string> trained_models() {
  std::vector<std::string> all;
  for (const char* name : {"models/stories15M.Q8_0.gguf", "models/stories15M.Q4_0.gguf"}) {
    if (const auto path = fixture(name); !path.empty()) all.push_back(path.string());
  }
  return all;
}

json isolate(std::vector<std::string> arguments, int exit_code) {
  arguments.insert(arguments.begin(), {"isolate", "--json", "--plan", "q8"});
  const CommandResult result = greta(arguments);
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  return json::parse(result.out, nullptr, false);
}

void expect_agreement(const std::vector<std::string>& all) {
  TemporaryDirectory folder;
  int run = 0;
  for (const std::string& model : all) {
    const json verdict = isolate({"--model", model, "--span", "16", "--out", folder.path() / std::to_string(run++)}, 0);
    ASSERT_FALSE(verdict.is_discarded()) << model;
    EXPECT_EQ(verdict["verdict"], "AGREE") << model;
    EXPECT_GT(verdict["keys"]["compared"].get<int>(), 1000);
    std::set<std::string> controls;
    for (const json& control : verdict["control"]) {
      EXPECT_TRUE(control["found"].get<bool>()) << model << " " << control.dump();
      controls.insert(control["stage"].get<std::string>());
    }
    EXPECT_EQ(controls.size(), 29u) << model;
    for (const std::string& stage : kQuantised) EXPECT_TRUE(controls.contains(stage)) << model << " " << stage;
    std::printf("%s: %d keys, %zu controls found\n", model.c_str(), verdict["keys"]["compared"].get<int>(), controls.size());
  }
  if (testing::Test::HasFailure()) folder.keep();
}

TEST(PlanQ8, AgreesBitForBitAndEveryControlIsFound) {
  const TemporaryDirectory folder;
  expect_agreement(models(folder));
}
TEST(HeavyPlanQ8, AgreesOnTrainedModels) { expect_agreement(trained_models()); }

TEST(PlanQ8, ThreadsChunksAndInstructionSetsOfTheArmsMayDiffer) {
  const TemporaryDirectory folder;
  const std::string model = models(folder)[1];
  const json verdict = isolate(
      {"--model", model, "--arm-a", "threads=1,isa=scalar", "--arm-b", "threads=2,chunk=5", "--out", folder.path() / "out"}, 0);
  EXPECT_EQ(verdict["verdict"], "AGREE");
}

TEST(PlanQ8, FaultsAreFoundBeforeAndAtTheCodes) {
  const TemporaryDirectory folder;
  int run = 0;
  const std::string demo = models(folder)[0];
  for (const auto& [fault, stage] : {std::pair{"b3_41", "ffn_norm"},
                                     {"perturb@decode:layer=2:stage=ffn_norm_q8:index=5", "ffn_norm_q8"},
                                     {"perturb@decode:layer=1:stage=attn_out_q8:rel=0.5:index=40", "attn_out_q8"},
                                     {"perturb@decode:stage=lm_head_in_q8", "lm_head_in_q8"},
                                     {"nan@decode:layer=3:stage=ffn_act_q8", "ffn_act_q8"},
                                     {"stale-input@decode:layer=1:stage=wo_out:from=attn_out_q8:row=0", "wo_out"}}) {
    const json verdict = isolate({"--model", demo, "--fault", fault, "--out", folder.path() / std::to_string(run++)}, 1);
    ASSERT_FALSE(verdict.is_discarded()) << fault;
    for (const json& prompt : verdict["prompts"]) EXPECT_EQ(prompt["first"]["stage"], stage) << fault;
  }
}

/// The integer route against exact products of the same codes: rounding apart, the same.
TEST(PlanQ8, TheRouteIsJudgedOnTheSameBytes) {
  const TemporaryDirectory folder;
  const std::string model = models(folder)[1];
  const CommandResult other = greta({"isolate", "--json", "--model", model, "--plan", "q8", "--arm-b", "route.matmul=float64",
                                     "--out", folder.path() / "out"});
  const json verdict = json::parse(other.out, nullptr, false);
  ASSERT_FALSE(verdict.is_discarded()) << other.err;
  EXPECT_EQ(verdict["reason"], "within_bounds");  // F32 sums are not double's, and both are right
  const CommandResult refused = greta({"run", "--model", model, "--prompt", "a", "--route", "matmul=q8"});
  EXPECT_EQ(refused.exit_code, 2);
  EXPECT_NE(refused.err.find("use plan q8"), std::string::npos) << refused.err;
}

std::vector<double> logits(const std::string& model, const std::string& plan, const std::filesystem::path& out) {
  const CommandResult result =
      greta({"run", "--model", model, "--prompt", "Once upon a time, there was a little girl named Lily.", "--max-tokens", "0",
             "--plan", plan, "--logits-all", "--logits-out", out.string()});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  const SafetensorsFile file(out);
  return file.read_f64(*file.find("logits"));
}

/// The relative RMS of all logits of a prompt, plan float64 the judge. Rounding a block to 127 steps of its largest element is
/// an error of 0.2 to 0.5 % of an input's RMS; through the layers it stays of that order.
TEST(PlanQ8, ErrorAgainstFloat64IsThatOf8BitInputs) {
  const TemporaryDirectory folder;
  std::vector<std::string> all = models(folder);
  for (const std::string& model : trained_models()) all.push_back(model);
  for (const std::string& model : all) {
    const auto judge = logits(model, "float64", folder.path() / "judge.safetensors");
    const auto quantised = logits(model, "q8", folder.path() / "q8.safetensors");
    ASSERT_EQ(judge.size(), quantised.size());
    double error = 0, size = 0;
    for (std::size_t i = 0; i < judge.size(); ++i) {
      error += (judge[i] - quantised[i]) * (judge[i] - quantised[i]);
      size += judge[i] * judge[i];
    }
    const double relative = std::sqrt(error / size);
    EXPECT_LT(relative, 0.03) << model;
    EXPECT_GT(relative, 1e-5) << model << ": nothing was quantised";
    std::printf("%s: q8 against float64, relative RMS of the logits %.2e\n", model.c_str(), relative);
  }
}

}  // namespace
}  // namespace greta::test
