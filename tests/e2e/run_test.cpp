#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <set>
#include <sstream>

#include "tests/support/command.h"

namespace greta::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

constexpr const char* kDemo = GRETA_SOURCE_DIR "/models/greta-demo.gguf";

/// Exit 2 and one line on stderr.
void expect_one_line_error(const CommandResult& result, const std::string& what) {
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_THAT(result.err, StartsWith("greta: error: "));
  EXPECT_THAT(result.err, HasSubstr(what));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

std::vector<nlohmann::json> lines(const std::filesystem::path& file, const std::string& event) {
  std::vector<nlohmann::json> found;
  std::istringstream in(read_file(file));
  for (std::string line; std::getline(in, line);)
    if (auto object = nlohmann::json::parse(line); object["event"] == event) found.push_back(std::move(object));
  return found;
}

TEST(Run, GeneratesTheSameTextForAnyThreadsChunkAndInstructionSet) {
  const std::vector<std::string> base{"run", "--prompt", "The old man said", "--max-tokens", "12"};
  const CommandResult first = greta(base);
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_GT(first.out.size(), 10u);
  for (const std::vector<std::string>& extra :
       {std::vector<std::string>{"--threads", "1"}, {"--chunk", "1"}, {"--isa", "scalar"}, {"--greedy"}}) {
    std::vector<std::string> arguments = base;
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    EXPECT_EQ(greta(arguments).out, first.out) << extra[0];
  }
}

TEST(Run, SamplesBySeed) {
  const auto sample = [](const char* seed) {
    return greta({"run", "--prompt", "The king", "--max-tokens", "16", "--temp", "1", "--top-k", "50", "--top-p", "0.95", "--seed", seed}).out;
  };
  EXPECT_EQ(sample("1"), sample("1"));
  EXPECT_NE(sample("1"), sample("2"));
}

TEST(Run, TracingChangesNoBitOfTheLogits) {
  for (const char* plan : {"reference", "float64"}) {
    const TemporaryDirectory directory;
    const auto run = [&](const std::string& name, const std::vector<std::string>& extra) {
      std::vector<std::string> arguments{"run", "--plan", plan, "--prompt", "In the beginning", "--max-tokens", "3", "--logits-all",
                                         "--logits-out", (directory.path() / name).string()};
      arguments.insert(arguments.end(), extra.begin(), extra.end());
      const CommandResult result = greta(arguments, {}, directory.path());
      EXPECT_EQ(result.exit_code, 0) << result.err;
      return result.out;
    };
    const std::string untraced = run("untraced.safetensors", {});
    const std::string traced = run("traced.safetensors", {"--trace-stages", "all", "--trace-phases", "prefill,decode", "--trace-full",
                                                          "--trace-out", "trace.jsonl"});
    EXPECT_EQ(untraced, traced);
    EXPECT_EQ(read_file(directory.path() / "untraced.safetensors"), read_file(directory.path() / "traced.safetensors"));
    EXPECT_GT(lines(directory.path() / "trace.jsonl", "post_wo_trace").size(), 100u);
    EXPECT_TRUE(std::filesystem::exists(directory.path() / "trace.safetensors"));
  }
}

TEST(Run, TracesByEnvironmentAsTheOriginalDid) {
  const TemporaryDirectory directory;
  const std::vector<std::string> environment{"GRETA_TRACE_POST_WO=1", "GRETA_TRACE_POST_WO_OUT=t.jsonl", "GRETA_TRACE_POST_WO_LAYERS=0,-1",
                                             "GRETA_TRACE_POST_WO_SAMPLE=16", "GRETA_TRACE_PROMPT_ID=mine"};
  const CommandResult result = greta({"run", "--prompt", "In the beginning", "--max-tokens", "3"}, environment, directory.path());
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto records = lines(directory.path() / "t.jsonl", "post_wo_trace");
  ASSERT_FALSE(records.empty());
  std::set<std::string> points, phases;
  std::set<int> layers;
  for (const auto& record : records) {
    EXPECT_EQ(record["prompt_id"], "mine");
    EXPECT_LE(record["sample"].size(), 16u);
    points.insert(record["point"]);
    phases.insert(record["phase"]);
    layers.insert(record["layer"].get<int>());
  }
  EXPECT_THAT(points, ::testing::IsSupersetOf({"x_in", "wo_out", "ffn_norm", "x_out", "final_rms", "lm_head_in"}));
  EXPECT_FALSE(points.contains("q"));
  EXPECT_THAT(phases, ::testing::ElementsAre("decode0", "decode1", "prefill_last"));
  EXPECT_THAT(layers, ::testing::ElementsAre(0, 7, 8));
}

TEST(Run, ExperimentE1ForcesTheAlignedStepIntoOneFile) {
  const TemporaryDirectory directory;
  const CommandResult result = greta({"run", "--prompt", "In the beginning", "--max-tokens", "2", "--exp", "E1"},
                                     {"GRETA_TRACE_POST_WO=1"}, directory.path());
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const auto file = directory.path() / "b3_41_post_wo_prompt_E1.jsonl";
  const auto logits = lines(file, "post_wo_logits");
  ASSERT_EQ(logits.size(), 2u);
  EXPECT_EQ(logits[0]["phase"], "prefill_last");
  EXPECT_EQ(logits[1]["phase"], "decode0");
  EXPECT_EQ(logits[0]["logits_hash"], logits[1]["logits_hash"]);
  EXPECT_EQ(logits[0]["pos_id"], logits[1]["pos_id"]);
}

TEST(Run, WarnsOfAnUnknownVariableAndNamesTheNearest) {
  const CommandResult result = greta({"run", "--prompt", "Hi", "--max-tokens", "1"}, {"GRETA_TRACE_POST_WOO=1"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("warning: environment variable GRETA_TRACE_POST_WOO is not known"));
  EXPECT_THAT(result.err, HasSubstr("did you mean 'GRETA_TRACE_POST_WO'"));
}

TEST(RunBadInput, IsOneLineAndExitTwo) {
  const TemporaryDirectory directory;
  const auto file = [&](const char* name, const std::string& bytes) {
    write_file(directory.path() / name, bytes);
    return (directory.path() / name).string();
  };
  const auto run = [](std::vector<std::string> arguments, const std::vector<std::string>& environment = {}) {
    arguments.insert(arguments.begin(), {"run", "--max-tokens", "1"});
    return greta(arguments, environment);
  };
  std::string long_prompt;
  for (int i = 0; i < 1100; ++i) long_prompt += "word ";
  expect_one_line_error(run({"--prompt", long_prompt}), "are more than the context of 1024");
  expect_one_line_error(run({"--prompt-file", file("bad.txt", "ab\xff" "cd")}), "UTF-8");
  expect_one_line_error(run({"--prompt-file", file("empty.txt", "")}), "empty");
  expect_one_line_error(run({"--prompt", ""}), "no prompt");
  expect_one_line_error(run({"--prompt", "Hi", "--prompt-file", "x"}), "give one");
  expect_one_line_error(run({"--prompt-file", (directory.path() / "none").string()}), "none");
  expect_one_line_error(run({"--prompt", "Hi", "--model", (directory.path() / "none.gguf").string()}), "none.gguf");
  expect_one_line_error(run({"--prompt", "Hi", "--plan", "refrence"}), "plan 'refrence' is not known");
  expect_one_line_error(run({"--prompt", "Hi", "--kv", "q7"}), "use f64, f32, f16, bf16 or q8_0");
  expect_one_line_error(run({"--prompt", "Hi", "--route", "softmaks=float64"}), "softmax");
  expect_one_line_error(run({"--prompt", "Hi", "--route", "softmax"}), "op=route");
  expect_one_line_error(run({"--prompt", "Hi", "--isa", "neon"}), "use scalar, avx2 or avx512");
  expect_one_line_error(run({"--prompt", "Hi", "--backend", "cuda"}), "greta doctor");
  expect_one_line_error(run({"--prompt", "Hi", "--top-p", "2"}), "outside (0, 1]");
  expect_one_line_error(run({"--prompt", "Hi", "--greedy", "--temp", "1"}), "exclude each other");
  expect_one_line_error(run({"--prompt", "Hi", "--exp", "E7"}), "use E0 (as_designed) or E1 (aligned)");
  expect_one_line_error(run({"--prompt", "Hi", "--trace-stages", "fnn_norm"}), "ffn_norm");
  expect_one_line_error(run({"--prompt", "Hi", "--trace-layers", "99"}), "99");
  expect_one_line_error(run({"--prompt", "Hi", "--trace-phases", "dekode"}), "dekode");
  expect_one_line_error(run({"--prompt", "Hi", "--logits-out", "/nonexistent/dir/l.safetensors"}), "/nonexistent/dir");
  expect_one_line_error(run({"--prompt", "Hi", "--trace-out", "/nonexistent/dir/t.jsonl"}), "/nonexistent/dir");
  expect_one_line_error(run({"--prompt", "Hi", "--fault", "perturb@decode:stage=q:layer=3:index=999999"}), "elements");
  expect_one_line_error(run({"--prompt", "Hi"}, {"GRETA_MAX_SEQ_LEN=1"}), "more than the context of 1");
  expect_one_line_error(run({"--prompt", "Hi"}, {"GRETA_MAX_SEQ_LEN=x"}), "GRETA_MAX_SEQ_LEN");
  expect_one_line_error(run({"--prompt", "Hi"}, {"GRETA_TRACE_POST_WO=yes"}), "GRETA_TRACE_POST_WO");
}

}  // namespace
}  // namespace greta::test
