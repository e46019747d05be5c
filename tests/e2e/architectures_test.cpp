// Every architecture: prefill and decode agree bit for bit over a span of decode steps, with prompts longer than the window.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <vector>

#include "tests/support/command.h"

namespace greta::test {
namespace {

using ::testing::HasSubstr;

struct ArchitectureCase {
  std::string name;
  std::vector<std::string> synth;
  std::vector<std::string> stages;  // that its capture must hold beside Llama's
};
std::ostream& operator<<(std::ostream& out, const ArchitectureCase& c) { return out << c.name; }

std::vector<ArchitectureCase> cases() {
  return {
      {"llama_gqa7",
       {"--arch", "llama", "--heads", "7", "--kv-heads", "1", "--head-dim", "48", "--d-model", "90", "--vocab", "331"},
       {}},
      {"mistral", {"--arch", "mistral", "--window", "9"}, {}},
      {"qwen2_hd80",
       {"--arch", "qwen2", "--heads", "4", "--kv-heads", "2", "--head-dim", "80", "--d-model", "100", "--ffn", "70"},
       {}},
      {"qwen3", {"--arch", "qwen3", "--layers", "2"}, {"q_norm", "k_norm"}},
      {"gemma2", {"--arch", "gemma2", "--window", "9"}, {"attn_post_norm", "ffn_post_norm", "head_out"}},
      {"gemma3",
       {"--arch", "gemma3", "--window", "5", "--layers", "7", "--d-model", "90", "--heads", "7", "--kv-heads", "1",
        "--head-dim", "48", "--ffn", "100"},
       {"q_norm", "k_norm", "attn_post_norm", "ffn_post_norm"}},
  };
}

class Architectures : public testing::TestWithParam<ArchitectureCase> {
 protected:
  std::string synthesize() {
    const std::string model = folder_.path() / "model.gguf";
    std::vector<std::string> arguments{"models", "synth", "--seed", "3", "--context", "256", "--out", model};
    arguments.insert(arguments.end(), GetParam().synth.begin(), GetParam().synth.end());
    const CommandResult made = greta(arguments);
    EXPECT_EQ(made.exit_code, 0) << made.err;
    return model;
  }
  TemporaryDirectory folder_;
};

constexpr const char* kPrompt = "The river ran down to the sea and the old man went with it.";

TEST_P(Architectures, PrefillAndDecodeAgreeBitForBitOverASpan) {
  const std::string model = synthesize();
  const CommandResult agreed =
      greta({"isolate", "--model", model, "--prompt", kPrompt, "--span", "16", "--out", folder_.path() / "run", "--json"});
  EXPECT_EQ(agreed.exit_code, 0) << agreed.err;
  const auto verdict = nlohmann::json::parse(agreed.out);
  EXPECT_EQ(verdict["verdict"], "AGREE");
  EXPECT_EQ(verdict["reason"], "bit_equal");
  std::vector<std::string> controlled;
  for (const auto& control : verdict["control"]) {
    EXPECT_TRUE(control["found"]) << control;
    controlled.push_back(control["stage"]);
  }
  for (const std::string& stage : GetParam().stages) EXPECT_THAT(controlled, ::testing::Contains(stage));
}

/// The same on 8-bit activations: integer products, of block-quantised weights.
TEST(ArchitecturesQ8, PrefillAndDecodeAgreeBitForBit) {
  const TemporaryDirectory folder;
  for (const std::string architecture : {"mistral", "qwen2", "qwen3", "gemma2", "gemma3"}) {
    const std::string model = folder.path() / (architecture + ".gguf");
    std::vector<std::string> arguments{"models", "synth",  "--arch", architecture, "--type", "q8_0",  "--layers",
                                       "2",      "--seed", "3",      "--context",  "256",    "--out", model};
    if (architecture.find("qwen") == std::string::npos) arguments.insert(arguments.end(), {"--window", "9"});
    ASSERT_EQ(greta(arguments).exit_code, 0);
    const CommandResult agreed = greta({"isolate", "--model", model, "--prompt", kPrompt, "--span", "16", "--plan", "q8",
                                        "--out", folder.path() / architecture, "--json"});
    EXPECT_EQ(agreed.exit_code, 0) << architecture << ": " << agreed.err;
    const auto verdict = nlohmann::json::parse(agreed.out);
    EXPECT_EQ(verdict["reason"], "bit_equal") << architecture;
    std::set<std::string> controlled;
    for (const auto& control : verdict["control"]) controlled.insert(control["stage"].get<std::string>());
    EXPECT_TRUE(controlled.contains("attn_norm_q8")) << architecture;  // it did quantise
  }
}

/// Element 0 of a row of scores is key 0 for head 0. Where a window hides it, no perturbation moves it: refused, never a
/// verdict.
TEST_P(Architectures, AFaultInScoresIsFoundThereWhereItCanAct) {
  const std::string model = synthesize();
  const CommandResult result = greta({"isolate", "--model", model, "--prompt", kPrompt, "--fault",
                                      "perturb@decode:layer=0:stage=attn_scores:position=-1:add=0.5:index=0", "--out",
                                      folder_.path() / "run", "--json"});
  const auto& synth = GetParam().synth;
  const bool hidden = std::find(synth.begin(), synth.end(), "--window") != synth.end();
  ASSERT_EQ(result.exit_code, hidden ? 2 : 1) << result.err;
  if (hidden) {
    EXPECT_THAT(result.out + result.err, HasSubstr("fault"));
  } else {
    EXPECT_EQ(nlohmann::json::parse(result.out)["prompts"][0]["first"]["stage"], "attn_scores");
  }
}

/// The first wrong number of a wrong norm after attention is that norm's, and of a cap the cap's.
TEST(ArchitecturesFaults, AreFoundAtTheStagesOfTheirOwn) {
  const TemporaryDirectory folder;
  const std::string model = folder.path() / "model.gguf";
  ASSERT_EQ(greta({"models", "synth", "--arch", "gemma2", "--window", "9", "--context", "256", "--out", model}).exit_code, 0);
  for (const std::string stage : {"attn_post_norm", "ffn_post_norm", "head_out", "logits"}) {
    const CommandResult diverged =
        greta({"isolate", "--model", model, "--prompt", kPrompt, "--fault",
               "perturb@decode:layer=1:stage=" + stage + ":add=0.5", "--out", folder.path() / stage, "--json"});
    ASSERT_EQ(diverged.exit_code, 1) << stage << ": " << diverged.err;
    EXPECT_EQ(nlohmann::json::parse(diverged.out)["prompts"][0]["first"]["stage"], stage);
  }
}

INSTANTIATE_TEST_SUITE_P(All, Architectures, testing::ValuesIn(cases()), [](const auto& one) { return one.param.name; });

}  // namespace
}  // namespace greta::test
