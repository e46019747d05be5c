// Commands that a run prints, taken from its report and run as they stand; and what is said of commands that cannot be run.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/command.h"

namespace greta::test {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;

/// The lines of the first ```sh block after `heading`.
std::vector<std::string> commands_under(const std::string& report, const std::string& heading) {
  const std::size_t at = report.find("```sh\n", report.find(heading)) + 6;
  std::istringstream block(report.substr(at, report.find("```", at) - at));
  std::vector<std::string> commands;
  for (std::string line; std::getline(block, line);) commands.push_back(line);
  return commands;
}

CommandResult in_a_shell(const std::string& command, const fs::path& directory) {
  const std::string path = fs::path(GRETA_BINARY).parent_path().string();
  return run_command({"bash", "-c", "PATH='" + path + "':$PATH\n" + command}, {}, directory);
}

TEST(PrintedCommands, ReproduceTheRunAndGoOnFromItAsTheyStand) {
  TemporaryDirectory folder;
  const fs::path& at = folder.path();
  // A name that a shell would take apart.
  ASSERT_EQ(greta({"models", "synth", "--shape", "tiny", "--seed", "1", "--out", at / "it's a $model.gguf"}).exit_code, 0);
  const CommandResult first = greta({"isolate", "it's a $model.gguf", "--prompt", "the cat's \"mat\"", "--fault", "b3_41",
                                     "--layers", "all", "--out", "my run"},
                                    {}, at);
  ASSERT_EQ(first.exit_code, 1) << first.err;
  const std::string report = read_file(at / "my run" / "report.md"), table = read_file(at / "my run" / "b3_41_analysis.txt");

  const auto commands = commands_under(report, "## Commands that reproduce the run");
  ASSERT_EQ(commands.size(), 2u) << report;
  const CommandResult again = in_a_shell(commands[0], at);
  EXPECT_EQ(again.exit_code, 1) << commands[0] << "\n" << again.err;
  fs::path second;
  for (const auto& entry : fs::recursive_directory_iterator(at / "artifacts"))
    if (entry.path().filename() == "b3_41_analysis.txt") second = entry.path();
  ASSERT_FALSE(second.empty());
  EXPECT_EQ(read_file(second), table);

  EXPECT_EQ(in_a_shell(commands[1], at).exit_code, 1) << commands[1];
  EXPECT_EQ(read_file(at / "b3_41_analysis.txt"), table);

  const auto next = commands_under(report, "## Next step");
  ASSERT_EQ(next.size(), 1u);
  const CommandResult after = in_a_shell(next[0], at);
  EXPECT_EQ(after.exit_code, 1) << next[0] << "\n" << after.err;
  EXPECT_THAT(after.err, HasSubstr("DIVERGED"));
  EXPECT_THAT(first.err, HasSubstr("next        " + next[0] + "\n"));
  if (testing::Test::HasFailure()) folder.keep();
}

TEST(PrintedCommands, AfterAOneTokenPromptTheNextOneRuns) {
  const TemporaryDirectory folder;
  const fs::path& at = folder.path();
  ASSERT_EQ(greta({"models", "synth", "--shape", "tiny", "--seed", "1", "--out", at / "m m.gguf"}).exit_code, 0);
  const CommandResult first = greta({"isolate", "m m.gguf", "--prompt", "<|begin_of_text|>", "--out", "one"}, {}, at);
  ASSERT_EQ(first.exit_code, 2) << first.err;
  ASSERT_THAT(first.err, HasSubstr("one_token_prompt"));
  const std::string next = first.err.substr(first.err.find("next        ") + 12);
  EXPECT_EQ(in_a_shell(next, at).exit_code, 0) << next;
}

// No GPU computes in float64, and a plan that is asked for is part of the run.
TEST(PrintedCommands, AfterARunOnAGpuTheNextOneRuns) {
  const TemporaryDirectory folder;
  const fs::path& at = folder.path();
  ASSERT_EQ(greta({"models", "synth", "--shape", "tiny", "--layers", "1", "--seed", "1", "--out", at / "m.gguf"}).exit_code, 0);
  const auto next_of = [&](std::vector<std::string> arguments, int exit_code) {
    arguments.insert(arguments.begin(), {"isolate", "m.gguf", "--backend", "emulated", "--prompt", "The cat"});
    const CommandResult run = greta(arguments, {}, at);
    EXPECT_EQ(run.exit_code, exit_code) << run.err;
    const std::string next = run.err.substr(run.err.find("next        ") + 12);
    return next.substr(0, next.find('\n'));
  };
  const std::string diverged = next_of({"--plan", "invariant", "--fault", "b3_41"}, 1);
  EXPECT_THAT(diverged, HasSubstr(" --plan reference"));
  EXPECT_EQ(diverged.find("--plan"), diverged.rfind("--plan")) << diverged;
  const CommandResult after = in_a_shell(diverged, at);
  EXPECT_EQ(after.exit_code, 1) << diverged << "\n" << after.err;
  EXPECT_THAT(after.err, HasSubstr("DIVERGED"));
  // A plan that the arm's own option names stays.
  const std::string fixed = next_of({"--arm-a", "plan=reference", "--arm-b", "plan=invariant", "--fault", "b3_41"}, 1);
  EXPECT_EQ(fixed.find("--plan"), std::string::npos) << fixed;
  EXPECT_THAT(fixed, HasSubstr("--layers 0"));
  const std::string agreed = next_of({"--plan", "reference"}, 0);
  EXPECT_THAT(agreed, HasSubstr("--plan reference"));
  EXPECT_EQ(in_a_shell(agreed, at).exit_code, 1) << agreed;
}

TEST(Misuse, IsOneReadableLine) {
  const auto expect_line = [](const CommandResult& result, const std::string& what) {
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
    EXPECT_LT(result.err.size(), 400u) << result.err;
    EXPECT_THAT(result.err, HasSubstr(what));
  };
  expect_line(greta({"isolat"}), "command 'isolat' is not known; did you mean 'isolate'");
  expect_line(greta({"isolate", "--prompt", ""}), "--prompt: the prompt is empty");
  expect_line(greta({"run", "--prompt", "Hi", "--max-tokens", "-3"}), "'-3' is not a whole number of 0 or more");
  expect_line(greta({"run", "--prompt", "Hi", "--max-tokens", "many"}), "'many' is not a whole number");
  expect_line(greta({"run", "--prompt", "Hi", "--temp", "-1"}), "'-1' is not a number of 0 or more");
  expect_line(greta({"isolate", "--chunk", "-1"}), "'-1' is not a whole number of 0 or more");
  expect_line(greta({"routes", "--rows", "0"}), "'0' is not a whole number of 1 or more");
}

TEST(Misuse, AnUnknownVariableIsAWarningOfEveryCommand) {
  const CommandResult result = greta({"faults"}, {"GRETA_TRACE_POST_W0=1"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_THAT(result.err, HasSubstr("GRETA_TRACE_POST_W0 is not known and has no effect; did you mean 'GRETA_TRACE_POST_WO'"));
}

}  // namespace
}  // namespace greta::test
