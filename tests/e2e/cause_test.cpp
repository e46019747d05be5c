// The cause that isolate names: for faults that it can know, the right one; for others none, rather than a wrong one.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/support/command.h"

namespace greta::test {
namespace {

using Json = nlohmann::json;

struct Case {
  std::string fault, name;
  Json params = Json::object();         // a part of those named
  std::vector<std::string> flags = {};  // of isolate
};

Json cause_of(const std::string& model, const std::string& fault, const TemporaryDirectory& folder, int& runs,
              const std::vector<std::string>& flags = {}) {
  std::vector<std::string> arguments{"isolate",
                                     model,
                                     "--prompt",
                                     "Once upon a time there was a small harbour",
                                     "--json",
                                     "--out",
                                     folder.path() / ("run" + std::to_string(++runs))};
  if (!fault.empty()) arguments.insert(arguments.end(), {"--fault", fault});
  arguments.insert(arguments.end(), flags.begin(), flags.end());
  const CommandResult result = greta(arguments);
  EXPECT_EQ(result.exit_code, fault.empty() ? 0 : 1) << fault << "\n" << result.err;
  const Json found = Json::parse(result.out, nullptr, false);
  return found.is_object() ? found["cause"] : Json::object();
}

const std::string kDemo = GRETA_SOURCE_DIR "/models/greta-demo.gguf";

void expect_named(const std::string& model, const Case& one, const TemporaryDirectory& folder, int& runs) {
  const Json cause = cause_of(model, one.fault, folder, runs, one.flags);
  EXPECT_EQ(cause["state"], "named") << one.fault << " " << cause.dump();
  EXPECT_EQ(cause["name"], one.name) << one.fault << " " << cause.dump();
  if (!cause["params"].is_object()) return;
  for (const auto& [key, value] : one.params.items())
    EXPECT_EQ(cause["params"].value(key, ""), value) << one.fault << cause.dump();
}

void expect_all_named(const std::vector<Case>& cases) {
  const TemporaryDirectory folder;
  int runs = 0;
  for (const Case& one : cases) expect_named(kDemo, one, folder, runs);
}

TEST(Cause, OfNormsAndRopeIsNamedWithItsParameters) {
  expect_all_named({
      {"b3_41", "input", {{"stage", "x_after_attn"}, {"layer", "0"}, {"position", "0"}}},
      {"rmsnorm-epsilon@decode:layer=7:stage=ffn_norm", "epsilon", {{"eps", "1e-06"}}},
      {"layernorm-for-rmsnorm@decode:stage=final_rms", "mean-subtracted"},
      {"rmsnorm-weight@decode:layer=3:stage=ffn_norm", "weight", {{"tensor", "blk.4.ffn_norm.weight"}}},
      {"rmsnorm-weight@decode:stage=final_rms", "weight", {{"tensor", "blk.7.ffn_norm.weight"}}},
      {"rmsnorm-row-stride@prefill:layer=1:position=6:delta=16", "row-stride", {{"elements", "96"}, {"delta", "16"}}},
      {"rope-pairing@decode:layer=1", "rope-pairing"},
      {"rope-theta@decode:layer=1:theta=20000", "rope-theta", {{"theta", "20000"}}},
      {"rope-theta@decode:layer=4:stage=k_rope:theta=12345", "rope-theta", {{"theta", "12345"}}},
      {"rope-twice@prefill:layer=2:position=6", "rope-twice"},
      {"rope-twice@prefill:layer=2:position=3", "rope-turn", {{"one_of", "rope-twice or rope-position position=6 as=+3"}}},
      {"rope-position@decode:layer=2", "rope-position", {{"as", "+1"}}},
      {"position-narrow@decode:layer=2:bits=3", "rope-position", {{"position", "4"}}},
  });
}

TEST(Cause, OfMatricesIsNamedWithItsParameters) {
  expect_all_named({
      {"weight-transposed@decode:layer=1:stage=q", "weight-transposed"},
      {"weight-transposed@decode:layer=1:stage=ffn_up", "weight-transposed"},
      {"row-shifted@prefill:layer=5:stage=mlp_out:position=4", "row-shifted", {{"delta", "1"}}},
      {"qk-permuted@decode:layer=1", "rows-permuted"},
      {"qk-permuted@decode:layer=1:stage=k:heads=2", "rows-permuted", {{"heads", "2"}}},
      {"tail-dropped@decode:layer=1:stage=wo_out", "tail-dropped", {{"elements", "32"}}},
      {"tail-dropped@decode:layer=1:stage=wo_out:block=7", "tail-dropped", {{"elements", "4"}}},
      {"block-scale@decode:layer=1:stage=q:block=3", "block-scale", {{"block", "3"}, {"as", "next"}}},
      {"block-scale@decode:layer=1:stage=k:block=2:as=one", "block-scale", {{"block", "2"}, {"as", "one"}}, {"--plan", "q8"}},
      {"inverse-scale-f16@decode:layer=2:bits=5", "inverse-scale", {{"bits", "5"}}, {"--plan", "q8"}},
      {"f16-accumulate@decode:layer=2:stage=mlp_out", "accumulation", {{"type", "f16"}}},
      {"f16-accumulate@decode:layer=2:stage=attn_out", "accumulation", {{"type", "f16"}}},
      {"f16-accumulate@decode:stage=logits", "accumulation", {{"type", "f16"}}},
      {"logits-row@decode:delta=-1", "logits-row", {{"delta", "-1"}}},
      {"embedding-row@decode", "embedding-row", {{"delta", "1"}}},
      {"embedding-row@decode:delta=77", "embedding-row"},
  });
}

TEST(Cause, OfAttentionAndItsSlotsIsNamedWithItsParameters) {
  expect_all_named({
      {"softmax-scale@decode:layer=1", "softmax-scale", {{"scale", "missing"}}},
      {"gqa-head-map@decode:layer=1", "gqa-head-map", {{"map", "modulo"}}},
      {"attention-length@decode:layer=6", "attention-length"},
      {"mask-stride@prefill:layer=2:position=7", "mask-stride", {{"delta", "1"}}},
      {"mask-off-by-one@decode:layer=2", "mask-off-by-one", {{"key", "empty slot"}}},
      {"mask-off-by-one@prefill:layer=2:position=4", "mask-off-by-one", {{"key", "next"}}},
      {"merge-empty-chunk@decode:layer=2", "merge-empty-chunk", {{"empty", "3"}}},
      {"softmax-no-max@decode:layer=2", "softmax-no-max", {{"type", "f16"}}},
      {"nan-padding@decode:layer=2", "nan-padding"},
      {"kv-stale@decode:layer=2", "slot-unwritten"},
      {"kv-stale@decode:layer=2:stage=v_cache:row=3", "slot-stale", {{"layer", "2"}, {"position", "3"}}},
      {"kv-slot-shift@prefill:layer=2:position=4", "kv-slot-shift", {{"delta", "+1"}}},
      {"kv-slot-shift@prefill:layer=2:position=4:delta=-2", "kv-slot-shift", {{"delta", "-2"}}},
      {"kv-wrong-layer@decode:layer=2:stage=attn_scores", "kv-wrong-layer", {{"layer", "3"}}},
      {"kv-wrong-layer@decode:layer=4:stage=attn_out", "kv-wrong-layer", {{"layer", "5"}}},
      {"kv-wrong-layer@prefill:layer=2:position=3:stage=attn_scores",
       "zeros",
       {{"one_of", "kv-unwritten or output-unwritten"}}},
  });
}

TEST(Cause, OfBuffersAndSumsIsNamedWithItsParameters) {
  expect_all_named({
      {"residual-missing@decode:layer=1", "residual", {{"sum", "branch alone"}}},
      {"residual-twice@decode:layer=2", "residual", {{"sum", "stream twice"}}},
      {"residual-source@decode:layer=2", "input", {{"stage", "attn_norm"}, {"layer", "2"}}},
      {"stale-input@decode:layer=2:stage=wo_out:from=attn_out:row=1", "input", {{"stage", "attn_out"}, {"position", "1"}}},
      {"uninitialised-tail@decode:layer=2:stage=ffn_act:elements=5", "tail-unwritten", {{"count", "5"}}},
      {"uninitialised-tail@decode:layer=2:stage=ffn_act", "tail-unwritten", {{"holds", "layer 1 position 12"}}},
      {"perturb@decode:layer=1:stage=q:add=0.1:index=7", "element", {{"first", "7"}}},
      {"nan@decode:layer=1:stage=v:index=9", "nan", {{"first", "9"}, {"count", "1"}}},
  });
}

TEST(Cause, OfArchitecturesWithMoreThanLlamaHas) {
  const TemporaryDirectory folder;
  int runs = 0;
  const std::vector<std::pair<std::vector<std::string>, Case>> cases{
      {{"--arch", "gemma2"}, {"softcap-missing@decode:layer=1", "softcap-missing"}},
      {{"--arch", "gemma2"}, {"softcap-missing@decode:stage=logits", "softcap-missing"}},
      {{"--arch", "gemma2"}, {"embedding-scale@decode", "embedding-scale"}},
      {{"--arch", "qwen2"}, {"bias-missing@decode:layer=1:stage=k", "bias-missing"}},
      {{"--arch", "qwen3"}, {"rmsnorm-weight@decode:layer=1:stage=q_norm", "weight", {{"tensor", "blk.2.attn_q_norm.weight"}}}},
      {{"--arch", "qwen3"}, {"rmsnorm-epsilon@decode:layer=1:stage=k_norm:eps=0.0123", "epsilon", {{"eps", "0.0123"}}}},
      {{"--arch", "mistral", "--window", "4"}, {"window-off-by-one@decode:layer=1", "window", {{"window", "+1"}}}},
      {{"--untied"}, {"head-untied-ignored@decode", "weight", {{"tensor", "token_embd.weight"}}}},
      {{"--type", "q5_1"}, {"block-min@decode:layer=1:stage=v", "block-min", {{"block", "0"}}}},
      {{"--type", "q5_1"}, {"block-min@decode:layer=1:stage=v", "block-min", {{"block", "0"}}, {"--plan", "q8"}}},
      {{"--type", "q4_k", "--d-model", "512", "--ffn", "512"},
       {"block-scale@decode:layer=1:stage=mlp_out:block=1", "block-scale", {{"block", "1"}, {"as", "next"}}}},
  };
  for (const auto& [flags, one] : cases) {
    const std::string model = folder.path() / ("m" + std::to_string(runs) + ".gguf");
    std::vector<std::string> synth{"models", "synth", "--shape", "tiny", "--layers", "3", "--seed", "3", "--out", model};
    synth.insert(synth.end(), flags.begin(), flags.end());
    ASSERT_EQ(greta(synth).exit_code, 0);
    expect_named(model, one, folder, runs);
  }
}

/// What no hypothesis reproduces is not named, however near one comes: two bugs in one row, and rows that were not kept (those
/// of the other sequence, those before a context shift).
TEST(Cause, IsNotGuessed) {
  const TemporaryDirectory folder;
  int runs = 0;
  const std::string shift = "kv-shift-missing@prefill:layer=1:position=2";
  const std::vector<Case> cases{
      {"rmsnorm-epsilon@decode:layer=2:stage=ffn_norm:eps=0.01",
       "",
       {},
       {"--fault", "perturb@decode:layer=2:stage=ffn_norm:add=1"}},
      {"block-scale@decode:layer=1:stage=q", "", {}, {"--fault", "perturb@decode:layer=1:stage=q:add=1:index=30"}},
      {"sequence-crosstalk@decode:layer=2", "", {}, {"--arm-b", "batch=2"}},
      {"sequence-crosstalk@prefill:layer=2:position=5:stage=attn_out", "", {}, {"--arm-b", "batch=2"}},
      {shift, "", {}, {"--shift", "1:2"}},
  };
  for (const Case& one : cases) {
    const Json cause = cause_of(kDemo, one.fault, folder, runs, one.flags);
    EXPECT_NE(cause["state"], "named") << one.fault << " " << cause.dump();
    EXPECT_EQ(cause["confirmed"], false);
  }
  const Json healthy = cause_of(kDemo, "", folder, runs);
  EXPECT_EQ(healthy["state"], "none");
  EXPECT_EQ(healthy["name"], nullptr);
}

}  // namespace
}  // namespace greta::test
