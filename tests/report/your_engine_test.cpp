// The C program of docs/your-engine.md, taken from the page, compiled, run, and its trace judged: a capture that nothing of
// ours wrote.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <string>

#include "isolate/judge.h"
#include "report/tsv.h"
#include "trace/load.h"

namespace greta {
namespace {

namespace fs = std::filesystem;

std::string read(const fs::path& file) {
  std::ifstream stream(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
}

/// All blocks of the page that are C, in order.
std::string program() {
  const std::string page = read(fs::path(GRETA_SOURCE_DIR) / "docs/your-engine.md");
  std::string code;
  for (std::size_t at = page.find("```c\n"); at != std::string::npos; at = page.find("```c\n", at)) {
    at += 5;
    const std::size_t end = page.find("```", at);
    code += page.substr(at, end - at);
    at = end + 3;
  }
  return code;
}

class YourEngine : public ::testing::Test {
 protected:
  void SetUp() override {
    directory_ = fs::path(::testing::TempDir()) / fmt::format("greta_your_engine_{}", ::getpid());
    fs::create_directories(directory_);
    std::ofstream(directory_ / "engine.c", std::ios::binary) << program();
    ASSERT_EQ(shell("cc -std=c99 -Wall -Wextra -Werror -o engine engine.c -lm"), 0);
  }
  void TearDown() override { fs::remove_all(directory_); }

  int shell(const std::string& command) {
    return std::system(fmt::format("cd '{}' && {}", directory_.string(), command).c_str());
  }
  isolate::Outcome judge(const std::string& file, const NameMap& names = {}) {
    LoadOptions options;
    options.jsonl.names = names;
    LoadedCaptures loaded = load_captures(directory_ / file, options);
    isolate::RunInfo run;
    run.source = isolate::Source::analyze;
    run.unreadable_lines = loaded.unreadable_lines();
    std::vector<isolate::PromptPair> pairs;
    for (LoadedPair& pair : loaded.pairs) {
      isolate::PromptPair& one = pairs.emplace_back();
      if (pair.a) one.a = std::move(*pair.a);
      if (pair.b) one.b = std::move(*pair.b);
    }
    return isolate::judge(pairs, {}, run);
  }

  fs::path directory_;
};

TEST_F(YourEngine, AHealthyEngineAgrees) {
  ASSERT_EQ(shell("./engine > t.jsonl"), 0);
  const isolate::Outcome outcome = judge("t.jsonl");
  EXPECT_EQ(outcome.verdict(), isolate::Verdict::agree) << outcome.judgement.detail;
  EXPECT_EQ(outcome.keys.compared, 2 * 4 + 1);
  EXPECT_EQ(outcome.prompts.front().n_tokens, 5);
  EXPECT_EQ(outcome.controls.size(), 5u);
  EXPECT_EQ(outcome.controls_found(), 5);
  for (const auto& control : outcome.controls) EXPECT_TRUE(control.in_memory);
  EXPECT_TRUE(outcome.a.foreign);
}

TEST_F(YourEngine, AStaleInputIsFoundAtItsStage) {
  ASSERT_EQ(shell("./engine stale > t.jsonl"), 0);
  const isolate::Outcome outcome = judge("t.jsonl");
  EXPECT_EQ(outcome.verdict(), isolate::Verdict::diverged);
  const isolate::PromptOutcome& prompt = outcome.prompts.front();
  EXPECT_EQ(prompt.first->stage, Stage::ffn_norm);
  EXPECT_EQ(prompt.first->layer, 0);
  EXPECT_EQ(prompt.first->position, 4);
  EXPECT_EQ(prompt.table.mae_of(Stage::x_after_attn), 0.0);
  EXPECT_GT(*prompt.table.mae_of(Stage::ffn_norm), 1e-3);
  EXPECT_FALSE(prompt.table.mae_of(Stage::mlp_out));  // the toy has none
  EXPECT_TRUE(prompt.top_a && prompt.top_b);
}

TEST_F(YourEngine, ARealRoundingDifferenceIsNeitherAgreementNorDivergence) {
  ASSERT_EQ(shell("./engine > t.jsonl && sed -i '/decode0.*ffn_norm/s/\\(\"sample\":\\[[^,]*[0-9]\\)[0-9],/\\17,/' t.jsonl"),
            0);
  const isolate::Outcome outcome = judge("t.jsonl");
  EXPECT_EQ(outcome.judgement.reason, isolate::Reason::below_threshold) << outcome.judgement.detail;
}

TEST_F(YourEngine, TheirOwnNamesAreMapped) {
  ASSERT_EQ(
      shell("./engine stale | sed 's/\"point\":\"ffn_norm\",\"layer\":\\([0-9]*\\)/\"point\":\"blk.\\1.norm2\"/' > t.jsonl"),
      0);
  NameMap names;
  names.add("blk.{layer}.norm2", "ffn_norm");
  EXPECT_EQ(judge("t.jsonl", names).prompts.front().first->stage, Stage::ffn_norm);
  EXPECT_EQ(judge("t.jsonl").prompts.front().first->stage, Stage::x_out);
}

TEST_F(YourEngine, DamagedTracesAreNeverAnAgreement) {
  ASSERT_EQ(shell("./engine > whole.jsonl && head -c -40 whole.jsonl > t.jsonl"), 0);
  EXPECT_NE(judge("t.jsonl").verdict(), isolate::Verdict::agree);
  ASSERT_EQ(shell("sed "
                  "'s/\"pos_id\":4,\"token_id\":9,\"point\":\"x_in\",\"layer\":0/"
                  "\"pos_id\":4,\"token_id\":8,\"point\":\"x_in\",\"layer\":0/; "
                  "' whole.jsonl | sed '/prefill_last/s/\"token_id\":8/\"token_id\":9/' > t.jsonl"),
            0);
  EXPECT_EQ(judge("t.jsonl").judgement.reason, isolate::Reason::misaligned);
  ASSERT_EQ(shell("grep -v 'decode0.*x_in.*\"layer\":0' whole.jsonl > t.jsonl"), 0);
  EXPECT_EQ(judge("t.jsonl").judgement.reason, isolate::Reason::misaligned);
  ASSERT_EQ(shell("grep -v 'decode0.*x_out' whole.jsonl > t.jsonl"), 0);
  EXPECT_EQ(judge("t.jsonl").judgement.reason, isolate::Reason::missing_stages);
  ASSERT_EQ(shell("grep -v decode0 whole.jsonl > t.jsonl"), 0);
  EXPECT_EQ(judge("t.jsonl").judgement.reason, isolate::Reason::zero_common_keys);
  ASSERT_EQ(shell("(cat whole.jsonl; echo garbage) > t.jsonl"), 0);
  EXPECT_EQ(judge("t.jsonl").judgement.reason, isolate::Reason::unreadable_lines);
}

}  // namespace
}  // namespace greta
