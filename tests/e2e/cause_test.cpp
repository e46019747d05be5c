// The cause that isolate names: for faults that it can know, the right one; for others none, rather than a wrong one.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/command.h"

namespace greta::test {
namespace {

using Json = nlohmann::json;

struct Case {
  std::string fault, name;
  Json params = Json::object();  // a part of those named
};

Json cause_of(const std::string& model, const std::string& fault, const TemporaryDirectory& folder, int& runs) {
  std::vector<std::string> arguments{"isolate",
                                     model,
                                     "--prompt",
                                     "Once upon a time there was a small harbour",
                                     "--json",
                                     "--out",
                                     folder.path() / ("run" + std::to_string(++runs))};
  if (!fault.empty()) arguments.insert(arguments.end(), {"--fault", fault});
  const CommandResult result = greta(arguments);
  EXPECT_EQ(result.exit_code, fault.empty() ? 0 : 1) << fault << "\n" << result.err;
  const Json found = Json::parse(result.out, nullptr, false);
  return found.is_object() ? found["cause"] : Json::object();
}

const std::string kDemo = GRETA_SOURCE_DIR "/models/greta-demo.gguf";

TEST(Cause, IsNamedWithItsParameters) {
  const TemporaryDirectory folder;
  int runs = 0;
  const std::vector<Case> cases{
      {"b3_41", "input", {{"stage", "x_after_attn"}, {"layer", "0"}, {"position", "0"}}},
      {"rmsnorm-epsilon@decode:layer=7:stage=ffn_norm", "epsilon", {{"eps", "1e-06"}}},
      {"layernorm-for-rmsnorm@decode:layer=3:stage=attn_norm", "mean-subtracted"},
      {"rmsnorm-weight@decode:layer=3:stage=ffn_norm", "weight", {{"tensor", "blk.4.ffn_norm.weight"}}},
      {"rope-pairing@decode:layer=1", "rope-pairing"},
      {"rope-theta@decode:layer=1:theta=20000", "rope-theta", {{"theta", "20000"}}},
      {"rope-twice@prefill:layer=2:position=3", "rope-twice"},
      {"rope-position@decode:layer=2", "rope-position", {{"as", "+1"}}},
      {"weight-transposed@decode:layer=1:stage=q", "weight-transposed"},
      {"row-shifted@prefill:layer=5:stage=mlp_out:position=4", "row-shifted", {{"delta", "1"}}},
      {"qk-permuted@decode:layer=1", "rows-permuted"},
      {"tail-dropped@decode:layer=1:stage=wo_out", "tail-dropped", {{"elements", "32"}}},
      {"softmax-scale@decode:layer=1", "softmax-scale", {{"scale", "missing"}}},
      {"gqa-head-map@decode:layer=1", "gqa-head-map", {{"map", "modulo"}}},
      {"attention-length@decode:layer=6", "attention-length"},
      {"residual-missing@decode:layer=1", "residual", {{"sum", "branch alone"}}},
      {"residual-twice@decode:layer=2", "residual", {{"sum", "stream twice"}}},
      {"residual-source@decode:layer=2", "input", {{"stage", "attn_norm"}, {"layer", "2"}}},
      {"logits-row@decode:delta=-1", "logits-row", {{"delta", "-1"}}},
      {"embedding-row@decode", "embedding-row", {{"delta", "1"}}},
      {"stale-input@decode:layer=2:stage=wo_out:from=attn_out:row=1", "input", {{"stage", "attn_out"}, {"position", "1"}}},
      {"kv-stale@decode:layer=2", "slot-unwritten"},
      {"kv-wrong-layer@decode:layer=2:stage=attn_scores", "kv-wrong-layer", {{"layer", "3"}}},
      {"kv-wrong-layer@decode:layer=4:stage=attn_out", "kv-wrong-layer", {{"layer", "5"}}},
      {"f16-accumulate@decode:layer=2:stage=mlp_out", "accumulation", {{"type", "f16"}}},
      {"f16-accumulate@decode:layer=2:stage=attn_out", "accumulation", {{"type", "f16"}}},
      {"uninitialised-tail@decode:layer=2:stage=ffn_act:elements=5", "tail-unwritten", {{"count", "5"}}},
      {"perturb@decode:layer=1:stage=q:add=0.1:index=7", "element", {{"first", "7"}}},
  };
  for (const Case& one : cases) {
    const Json cause = cause_of(kDemo, one.fault, folder, runs);
    EXPECT_EQ(cause["state"], "named") << one.fault << " " << cause.dump();
    EXPECT_EQ(cause["name"], one.name) << one.fault << " " << cause.dump();
    for (const auto& [key, value] : one.params.items())
      EXPECT_EQ(cause["params"].value(key, ""), value) << one.fault << cause.dump();
  }
}

TEST(Cause, OfArchitecturesWithMoreThanLlamaHas) {
  const TemporaryDirectory folder;
  int runs = 0;
  const std::vector<std::pair<std::vector<std::string>, Case>> cases{
      {{"--arch", "gemma2"}, {"softcap-missing@decode:layer=1", "softcap-missing"}},
      {{"--arch", "gemma2"}, {"embedding-scale@decode", "embedding-scale"}},
      {{"--arch", "qwen2"}, {"bias-missing@decode:layer=1:stage=k", "bias-missing"}},
      {{"--arch", "qwen3"}, {"rmsnorm-weight@decode:layer=1:stage=q_norm", "weight", {{"tensor", "blk.2.attn_q_norm.weight"}}}},
      {{"--arch", "mistral", "--window", "4"}, {"window-off-by-one@decode:layer=1", "window", {{"window", "+1"}}}},
  };
  for (const auto& [flags, one] : cases) {
    const std::string model = folder.path() / ("m" + std::to_string(runs) + ".gguf");
    std::vector<std::string> synth{"models", "synth", "--shape", "tiny", "--layers", "3", "--seed", "3", "--out", model};
    synth.insert(synth.end(), flags.begin(), flags.end());
    ASSERT_EQ(greta(synth).exit_code, 0);
    const Json cause = cause_of(model, one.fault, folder, runs);
    EXPECT_EQ(cause["state"], "named") << one.fault << " " << cause.dump();
    EXPECT_EQ(cause["name"], one.name) << one.fault << " " << cause.dump();
    for (const auto& [key, value] : one.params.items())
      EXPECT_EQ(cause["params"].value(key, ""), value) << one.fault << cause.dump();
  }
}

/// What no hypothesis reproduces is not named, however near one comes.
TEST(Cause, IsNotGuessed) {
  const TemporaryDirectory folder;
  int runs = 0;
  for (const char* fault : {"block-scale@decode:layer=1:stage=q", "mask-off-by-one@decode:layer=2",
                            "merge-empty-chunk@decode:layer=2", "softmax-no-max@decode:layer=2"}) {
    const Json cause = cause_of(kDemo, fault, folder, runs);
    EXPECT_NE(cause["state"], "named") << fault << " " << cause.dump();
    EXPECT_EQ(cause["confirmed"], false);
  }
  const Json healthy = cause_of(kDemo, "", folder, runs);
  EXPECT_EQ(healthy["state"], "none");
  EXPECT_EQ(healthy["name"], nullptr);
}

}  // namespace
}  // namespace greta::test
