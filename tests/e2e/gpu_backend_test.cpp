// GPU kernels from the command line, emulated at both wave sizes: prefill against decode, the CPU as witness and as judge, bits
// with and without a trace, any chunk and batch, and what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

#include "tests/support/command.h"

namespace greta::test {
namespace {

using nlohmann::json;

/// A small synthetic model of a type of weights.
std::string model_of(const TemporaryDirectory& folder, const std::string& type) {
  const std::string path = folder.path() / (type + ".gguf");
  EXPECT_EQ(
      greta({"models", "synth", "--shape", "tiny", "--layers", "2", "--type", type, "--seed", "3", "--out", path}).exit_code,
      0);
  return path;
}

/// Exit code 2 and one line that says `words`.
void expect_refusal(const CommandResult& result, const std::string& words) {
  EXPECT_EQ(result.exit_code, 2) << result.out;
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  EXPECT_NE(result.err.find(words), std::string::npos) << result.err;
}

json isolate(const TemporaryDirectory& folder, std::vector<std::string> arguments, int exit_code) {
  static int run = 0;
  arguments.insert(arguments.begin(),
                   {"isolate", "--json", "--prompt", "The king", "--out", folder.path() / ("out" + std::to_string(run++))});
  const CommandResult result = greta(arguments);
  EXPECT_EQ(result.exit_code, exit_code) << result.err;
  json verdict = json::parse(result.out, nullptr, false);
  EXPECT_FALSE(verdict.is_discarded()) << result.out << result.err;
  return verdict;
}

void expect_bit_equal(const json& verdict) {
  EXPECT_EQ(verdict["verdict"], "AGREE");
  EXPECT_EQ(verdict["reason"], "bit_equal");
  EXPECT_GT(verdict["keys"]["compared"].get<int>(), 100);
  EXPECT_FALSE(verdict["control"].empty());
  for (const json& control : verdict["control"]) EXPECT_TRUE(control["found"].get<bool>()) << control.dump();
}

class EmulatedGpu : public testing::TestWithParam<std::tuple<const char*, const char*, const char*>> {};

TEST_P(EmulatedGpu, PrefillAndDecodeHaveTheSameBits) {
  const auto& [type, plan, device] = GetParam();
  const TemporaryDirectory folder;
  expect_bit_equal(
      isolate(folder, {model_of(folder, type), "--backend", "emulated", "--device", device, "--plan", plan, "--span", "3"}, 0));
}
INSTANTIATE_TEST_SUITE_P(Types, EmulatedGpu,
                         testing::Values(std::tuple{"f16", "invariant", "0"}, std::tuple{"bf16", "invariant", "1"},
                                         std::tuple{"q8_0", "invariant", "0"}, std::tuple{"q4_0", "invariant", "1"},
                                         std::tuple{"f32", "reference", "0"}, std::tuple{"q8_0", "reference", "1"}));

TEST(EmulatedGpus, PlanReferenceHasTheBitsOfTheCpu) {
  const TemporaryDirectory folder;
  for (const char* type : {"f16", "q4_0"})
    expect_bit_equal(isolate(folder,
                             {model_of(folder, type), "--arm-a", "backend=cpu,plan=reference", "--arm-b",
                              "backend=emulated,plan=reference", "--span", "2"},
                             0));
}

TEST(EmulatedGpus, TheCpuInDoubleJudgesMatrixCoresByTheirBounds) {
  const TemporaryDirectory folder;
  const std::string model = model_of(folder, "bf16");
  const json healthy = isolate(folder, {model, "--arm-a", "backend=cpu,plan=float64", "--arm-b", "backend=emulated"}, 0);
  EXPECT_EQ(healthy["reason"], "within_bounds");
  const json faulty = isolate(folder,
                              {model, "--arm-a", "backend=cpu,plan=float64", "--arm-b", "backend=emulated", "--fault",
                               "weight-transposed@decode:layer=1:stage=wo_out"},
                              1);
  EXPECT_EQ(faulty["prompts"][0]["first"]["stage"], "wo_out");
  EXPECT_EQ(faulty["prompts"][0]["first"]["layer"], 1);
}

TEST(EmulatedGpus, TheFaultOfTheReportGivesItsPattern) {
  const TemporaryDirectory folder;
  const json verdict = isolate(folder, {model_of(folder, "f16"), "--backend", "emulated", "--fault", "b3_41"}, 1);
  EXPECT_EQ(verdict["prompts"][0]["first"]["stage"], "ffn_norm");
  EXPECT_EQ(verdict["prompts"][0]["first"]["layer"], 0);
}

TEST(EmulatedGpus, ATraceChangesNoLogits) {
  const TemporaryDirectory folder;
  const std::string model = model_of(folder, "bf16");
  const auto run = [&](const std::string& name, const std::vector<std::string>& more) {
    const std::string logits = folder.path() / (name + ".safetensors");
    std::vector<std::string> arguments{"run",          "--model",      model,          "--backend", "emulated",
                                       "--prompt",     "The king",     "--max-tokens", "4",         "--greedy",
                                       "--ignore-eos", "--logits-all", "--logits-out", logits,      "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult result = greta(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return read_file(logits) + json::parse(result.out)["tokens"].dump();
  };
  const std::string untraced = run("untraced", {});
  EXPECT_FALSE(untraced.empty());
  EXPECT_EQ(run("traced", {"--trace-stages", "all", "--trace-out", folder.path() / "trace.jsonl"}), untraced);
  EXPECT_GT(read_file(folder.path() / "trace.jsonl").size(), 1000u);
}

TEST(EmulatedGpus, DrawTheTokensOfTheCpu) {
  const TemporaryDirectory folder;
  const std::string model = model_of(folder, "f16");
  for (const std::vector<std::string>& how :
       {std::vector<std::string>{"--greedy"}, {"--temp", "0.9", "--seed", "5", "--top-k", "20", "--top-p", "0.9"}}) {
    const auto tokens = [&](const std::string& backend) {
      std::vector<std::string> arguments{"run",      "--model",   model,          "--plan", "reference",
                                         "--prompt", "The king",  "--max-tokens", "8",      "--ignore-eos",
                                         "--json",   "--backend", backend};
      arguments.insert(arguments.end(), how.begin(), how.end());
      const CommandResult result = greta(arguments);
      EXPECT_EQ(result.exit_code, 0) << result.err;
      return json::parse(result.out)["tokens"].dump();
    };
    EXPECT_EQ(tokens("emulated"), tokens("cpu"));
  }
}

TEST(EmulatedGpus, AnyChunkAndBatchGivesTheSameBits) {
  const TemporaryDirectory folder;
  const auto audit = [&, model = model_of(folder, "f16")](std::vector<std::string> more, int exit_code) {
    std::vector<std::string> arguments{"audit",    "invariance", model,           "--backend",
                                       "emulated", "--prompt",   "The king rode", "--json"};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const CommandResult result = greta(arguments);
    EXPECT_EQ(result.exit_code, exit_code) << result.out << result.err;
    const json found = json::parse(result.out, nullptr, false);
    EXPECT_FALSE(found.is_discarded()) << result.out << result.err;
    std::map<std::string, json> rows;
    for (const json& row : found["rows"]) rows[row["variant"].get<std::string>() + " " + row["value"].get<std::string>()] = row;
    return rows;
  };
  auto healthy = audit({}, 0);
  EXPECT_EQ(healthy["path op by op"]["calls"], "own");  // what stays on the device, and what does not
  EXPECT_EQ(healthy["batch 8"]["differing"], 0);
  // A fault takes the observed path; the base does not, and repeats of its calls are repeats all the same.
  auto faulty = audit({"--fault", "position-broadcast@prefill:layer=1"}, 1);
  EXPECT_EQ(faulty["chunk all"]["calls"], "as base");
  EXPECT_GT(faulty["chunk 3"]["differing"].get<int>(), 0);
}

TEST(EmulatedGpus, TwoBuildsAreCompared) {
  const TemporaryDirectory folder;
  const std::string model = model_of(folder, "q8_0"), self = std::string("binary=") + GRETA_BINARY;
  const json healthy = isolate(folder, {model, "--arm-b", self}, 0);
  EXPECT_EQ(healthy["verdict"], "AGREE");
  const json faulty = isolate(folder, {model, "--arm-b", self + ",fault=b3_41"}, 1);
  EXPECT_EQ(faulty["prompts"][0]["first"]["stage"], "ffn_norm");
  expect_refusal(greta({"isolate", model, "--arm-b", "binary=/no/such/greta"}), "no such file");
}

TEST(EmulatedGpuBadInput, IsRefusedInOneLine) {
  const TemporaryDirectory folder;
  const std::string model = model_of(folder, "q8_0");
  const auto refused = [&](std::vector<std::string> arguments, const std::string& words) {
    arguments.insert(arguments.begin(), {"isolate", model});
    expect_refusal(greta(arguments), words);
  };
  refused({"--backend", "emulated", "--device", "7"}, "device 7");
  refused({"--backend", "emulated", "--plan", "float64"}, "cpu backend");
  refused({"--backend", "emulated", "--kv", "q8_0"}, "f32, f16 or bf16");
  refused({"--plan", "invariant"}, "GPU backends");
  refused({"--backend", "cudda"}, "cuda");
  refused({"--backend", "emulated", "--route", "qk=float64"}, "not of this backend");
}

}  // namespace
}  // namespace greta::test
