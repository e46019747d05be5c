// Faults of a GPU by `greta isolate` on the emulated device: found at their stage, races as non-determinism; refused on the
// cpu; and healthy arms stay unblamed.
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "tests/support/command.h"

namespace greta::test {
namespace {

using Json = nlohmann::json;

class GpuFaults : public testing::Test {
 protected:
  /// Synthetic and small: emulated kernels are slow.
  std::string model(const std::string& type = "f32") {
    const std::string path = (scratch_.path() / (type + ".gguf")).string();
    if (std::filesystem::exists(path)) return path;
    const CommandResult made =
        greta({"models",  "synth", "--shape",  "tiny", "--d-model", "64", "--heads", "4",  "--kv-heads", "2", "--ffn", "96",
               "--vocab", "300",   "--layers", "2",    "--seed",    "3",  "--type",  type, "--out",      path});
    EXPECT_EQ(made.exit_code, 0) << made.err;
    return path;
  }
  CommandResult isolate(const std::string& path, std::vector<std::string> more) {
    std::vector<std::string> arguments{
        "isolate", path, "--json", "--lang", "en", "--out", (scratch_.path() / ("run" + std::to_string(++runs_))).string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    return greta(arguments);
  }
  CommandResult on_gpu(const std::string& path, std::vector<std::string> more) {
    more.insert(more.end(), {"--backend", "emulated", "--prompt", "Hi"});
    return isolate(path, more);
  }

  const TemporaryDirectory scratch_;
  int runs_ = 0;
};

/// DIVERGED, first at this stage and layer, by its values or as a race.
void expect_at(const CommandResult& result, bool race, const std::string& stage, int layer) {
  ASSERT_EQ(result.exit_code, 1) << result.err;
  const Json verdict = Json::parse(result.out), first = verdict["prompts"][0]["first"];
  EXPECT_EQ(verdict["verdict"], "DIVERGED");
  EXPECT_EQ(verdict["reason"] == "nondeterministic", race) << result.err;
  EXPECT_EQ(first["stage"], stage) << result.err;
  EXPECT_EQ(first["layer"], layer) << result.err;
}

TEST_F(GpuFaults, RacesAreNondeterministicAtTheirStage) {
  for (const auto& [kind, stage] :
       {std::pair{"gpu-missing-barrier", "ffn_norm"}, {"gpu-staging-reused", "ffn_norm"}, {"gpu-wrong-stream", "mlp_out"}}) {
    SCOPED_TRACE(kind);
    const CommandResult result = on_gpu(model(), {"--fault", std::string(kind) + "@decode:layer=1:stage=" + stage});
    expect_at(result, true, stage, 1);
  }
}

TEST_F(GpuFaults, ErrorsOfValuesAreFoundByValue) {
  for (const auto& [fault, stage] : {std::pair{"gpu-f16-accumulate@decode:layer=1:stage=mlp_out", "mlp_out"},
                                     {"gpu-wave-size@decode:layer=1:stage=ffn_norm", "ffn_norm"},
                                     {"gpu-padding@decode:layer=0:stage=wo_out", "wo_out"}}) {
    SCOPED_TRACE(fault);
    const std::string text = fault;
    expect_at(on_gpu(model(), {"--fault", text}), false, stage, text[text.find("layer=") + 6] - '0');
  }
}

/// A race that the pair's runs win is found by a repeat, and where there is none it had no effect.
TEST_F(GpuFaults, ARaceThatIsNeverLostIsRefused) {
  const CommandResult result = on_gpu(model(), {"--fault", "gpu-wrong-stream@decode:layer=1:stage=mlp_out", "--repeats", "0"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("changed nothing in this run"), std::string::npos) << result.err;
}

/// The repeats of an arm take position -1 for the same row as the arm itself.
TEST_F(GpuFaults, AFaultAtTheLastPositionIsNoRaceInALongerSpan) {
  expect_at(on_gpu(model(), {"--fault", "rmsnorm-epsilon@decode:layer=1:stage=ffn_norm:position=-1:eps=0.01", "--span", "2"}),
            false, "ffn_norm", 1);
}

/// Copies are late in the first repeat and in time in the second, threads in other orders in both.
TEST_F(GpuFaults, HealthyArmsRepeatThemselves) {
  const CommandResult result = on_gpu(model("f16"), {"--repeats", "2"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

TEST_F(GpuFaults, TheyAreRefusedOnTheCpu) {
  const CommandResult result =
      isolate(model(), {"--prompt", "Hi", "--fault", "gpu-missing-barrier@decode:layer=1:stage=ffn_norm"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("needs a GPU backend (cuda, hip or emulated)"), std::string::npos) << result.err;
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
}

/// The original report's pattern: every prompt diverges first at ffn_norm of layer 0.
TEST_F(GpuFaults, TheReportsFaultOnMatrixCoresStartsAtFfnNormInAllPrompts) {
  const auto prompt = [&](const char* name, const char* text) {
    write_file(scratch_.path() / name, text);
    return (scratch_.path() / name).string();
  };
  const CommandResult result =
      isolate(model("f16"), {"--backend", "emulated", "--plan", "invariant", "--fault", "b3_41", "--prompt-file",
                             prompt("p0.txt", "Hi"), "--prompt-file", prompt("p1.txt", "Hello")});
  ASSERT_EQ(result.exit_code, 1) << result.err;
  const Json prompts = Json::parse(result.out)["prompts"];
  ASSERT_EQ(prompts.size(), 2u);
  for (const Json& one : prompts) {
    EXPECT_EQ(one["first"]["stage"], "ffn_norm");
    EXPECT_EQ(one["first"]["layer"], 0);
  }
}

}  // namespace
}  // namespace greta::test
