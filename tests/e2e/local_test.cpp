// Arms on different routes: each op held to its bound, healthy pairs that must not be blamed, faults that must be found.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <set>

#include "tests/support/command.h"

namespace greta::test {
namespace {

using Json = nlohmann::json;
using ::testing::HasSubstr;

class Local : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryDirectory();
    for (const auto& [name, type] : {std::pair{"f32", "f32"}, {"q8_0", "q8_0"}, {"q4_k", "q4_k"}})
      ASSERT_EQ(
          greta({"models", "synth", "--shape", "tiny", "--layers", "3", "--type", type, "--seed", "11", "--out", model(name)})
              .exit_code,
          0);
    ASSERT_EQ(greta({"models", "synth", "--shape", "tiny", "--arch", "gemma2", "--layers", "2", "--seed", "5", "--out",
                     model("gemma2")})
                  .exit_code,
              0);
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string model(const std::string& name) { return folder_->path() / (name + ".gguf"); }

  CommandResult isolate(const std::string& name, const std::vector<std::string>& extra) {
    last_ = folder_->path() / ("run" + std::to_string(++runs_));
    std::vector<std::string> arguments{"isolate", model(name), "--prompt", "The quick brown fox jumps over the lazy dog",
                                       "--json",  "--out",     last_};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    return greta(arguments);
  }
  static Json json(const CommandResult& result) { return Json::parse(result.out, nullptr, false); }

  static inline TemporaryDirectory* folder_ = nullptr;
  static inline int runs_ = 0;
  std::string last_;
};

TEST_F(Local, HealthyRoutesAreNotBlamed) {
  const std::vector<std::pair<std::string, std::vector<std::string>>> pairs{
      {"f32", {"--arm-a", "plan=float64"}},
      {"f32", {"--arm-b", "plan=float64", "--span", "4"}},
      {"f32", {"--arm-b", "kv=f16"}},
      {"q8_0", {"--arm-b", "plan=q8"}},
      {"q4_k", {"--arm-a", "plan=float64", "--arm-b", "plan=q8,chunk=3"}},
      {"gemma2", {"--arm-a", "plan=float64"}},
      {"f32", {"--arm-b", "route.rmsnorm=float64"}},
  };
  for (const auto& [name, extra] : pairs) {
    const CommandResult result = isolate(name, extra);
    EXPECT_EQ(result.exit_code, 0) << name << " " << extra[1] << "\n" << result.err;
    const Json found = json(result);
    EXPECT_EQ(found.value("reason", ""), "within_bounds") << name << " " << extra[1] << "\n" << result.err;
    EXPECT_EQ(found["prompts"][0]["local"]["b"]["unjudged"], 0);
    EXPECT_GT(found["prompts"][0]["local"]["b"]["rows"], 100);
    for (const auto& control : found["control"]) EXPECT_TRUE(control["found"]) << control.dump();
  }
}

/// Where local error judges, an error is planted that the bound of its own row must find: stages whose bound is 0 (hand-overs,
/// F32 slots) get one ULP, and no bound is as wide as what the thresholds let pass.
TEST_F(Local, ControlsAreMeasuredByTheBoundsThatHaveToFindThem) {
  const CommandResult result = isolate("q8_0", {"--arm-b", "plan=q8", "--span", "3"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json found = json(result);
  EXPECT_EQ(found["reason"], "within_bounds");
  const std::set<std::string> exact{"k_cache", "v_cache", "x_out", "lm_head_in"};
  std::size_t by_ulp = 0, by_bound = 0;
  for (const auto& control : found["control"]) {
    EXPECT_TRUE(control["found"]) << control.dump();
    const std::string magnitude = control["magnitude"];
    if (exact.contains(control["stage"])) {
      EXPECT_EQ(magnitude, "1 ulp") << control.dump();
      ++by_ulp;
    } else if (magnitude != "1 ulp") {
      EXPECT_LT(std::abs(std::stod(magnitude)), 1e-4) << control.dump();
      ++by_bound;
    }
  }
  EXPECT_EQ(by_ulp, exact.size());
  EXPECT_GE(by_bound, 15u);
}

/// Trained models have what synthetic ones lack: massive activations, rows of few digits, heads alike.
TEST_F(Local, TrainedModelsAreNotBlamed) {
  std::vector<std::filesystem::path> models{GRETA_SOURCE_DIR "/models/greta-demo.gguf"};
  if (const auto path = fixture("models/stories15M.F16.gguf"); !path.empty()) models.push_back(path);
  for (const auto& path : models) {
    const CommandResult result = greta({"isolate", path, "--arm-a", "plan=float64", "--arm-b", "kv=f16", "--span", "2",
                                        "--prompt", "Once upon a time there was a small harbour and a very old boat.", "--out",
                                        folder_->path() / path.stem(), "--json"});
    EXPECT_EQ(json(result)["reason"], "within_bounds") << result.err;
  }
}

TEST_F(Local, OtherWeightsAreNoAgreementAndNobodysFault) {
  const CommandResult result = isolate("f32", {"--arm-b", "model=" + model("q8_0")});
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_EQ(json(result)["reason"], "weights_differ") << result.err;
  EXPECT_EQ(json(result)["prompts"][0]["first"], nullptr);
  EXPECT_EQ(json(greta({"analyze", "--dir", last_, "--json"}))["reason"], "weights_differ");
  const CommandResult faulty = isolate("f32", {"--arm-b", "model=" + model("q8_0"), "--fault", "rope-position@decode:layer=1"});
  EXPECT_EQ(faulty.exit_code, 1) << faulty.err;
  EXPECT_EQ(json(faulty)["prompts"][0]["first"]["stage"], "q_rope");
}

TEST_F(Local, AFaultIsFoundAtItsPlaceThoughTheArmsDifferEverywhere) {
  const std::vector<std::tuple<std::string, std::string, std::string, int>> plants{
      {"f32", "rmsnorm-epsilon@decode:layer=2:stage=ffn_norm:eps=1e-4", "ffn_norm", 2},
      {"f32", "stale-input@decode:layer=1:stage=ffn_norm:from=x_after_attn:row=0", "ffn_norm", 1},
      {"f32", "rope-position@decode:layer=1", "q_rope", 1},
      {"f32", "weight-transposed@decode:layer=1:stage=q", "q", 1},
      {"f32", "softmax-scale@decode:layer=2", "attn_scores", 2},
      {"f32", "kv-slot-shift@decode:layer=1", "k_cache", 1},
      {"f32", "residual-missing@decode:layer=0", "x_after_attn", 0},
      {"f32", "gqa-head-map@decode:layer=1:stage=attn_out", "attn_out", 1},
      {"q4_k", "block-scale@decode:layer=1:stage=mlp_out", "mlp_out", 1},
      {"gemma2", "softcap-missing@decode:layer=1", "attn_scores", 1},
  };
  for (const auto& [name, fault, stage, layer] : plants) {
    const CommandResult result = isolate(name, {"--arm-a", "plan=float64", "--fault", fault});
    EXPECT_EQ(result.exit_code, 1) << fault << "\n" << result.err;
    const Json found = json(result);
    EXPECT_EQ(found.value("reason", ""), "beyond_bound") << fault << "\n" << result.err;
    EXPECT_EQ(found["prompts"][0]["first"]["stage"], stage) << fault;
    EXPECT_EQ(found["prompts"][0]["first"]["layer"], layer) << fault;
    EXPECT_EQ(found["prompts"][0]["local"]["a"]["guilty_rows"], 0) << fault;
  }
}

TEST_F(Local, WithoutBoundsTheThresholdsJudge) {
  const CommandResult result = isolate("f32", {"--arm-b", "kv=f16", "--no-bounds"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_EQ(json(result)["reason"], "above_threshold");
  EXPECT_EQ(json(result)["cause"]["state"], "unexplained");
  EXPECT_TRUE(json(result)["prompts"][0]["local"].is_null());
}

TEST_F(Local, AFaultOfTheReferenceIsBlamedOnTheReference) {
  const CommandResult result =
      isolate("f32", {"--arm-a", "plan=float64,fault=rmsnorm-epsilon@any:layer=1:stage=ffn_norm:position=3:eps=1e-3"});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  EXPECT_THAT(result.err, HasSubstr("ffn_norm layer 1 position 3 of arm A"));
}

TEST_F(Local, AnalyzeSaysWhatTheRunSaid) {
  const CommandResult result = isolate("f32", {"--arm-a", "plan=float64"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const CommandResult again = greta({"analyze", "--dir", last_, "--json"});
  EXPECT_EQ(again.exit_code, 0) << again.err;
  EXPECT_EQ(json(again)["reason"], "within_bounds");
  const CommandResult faulty = isolate("f32", {"--arm-a", "plan=float64", "--fault", "rope-position@decode:layer=1"});
  ASSERT_EQ(faulty.exit_code, 1) << faulty.err;
  EXPECT_EQ(greta({"analyze", "--dir", last_, "--out", folder_->path() / "t.txt"}).exit_code, 1);
  const auto from_line_2 = [](const std::string& text) { return text.substr(text.find('\n')); };
  EXPECT_EQ(from_line_2(read_file(folder_->path() / "t.txt")), from_line_2(read_file(last_ + "/b3_41_analysis.txt")));
}

}  // namespace
}  // namespace greta::test
