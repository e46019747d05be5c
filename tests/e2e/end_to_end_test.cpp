// The main job in one case, small enough to run under the sanitizers too.
#include <gtest/gtest.h>

#include <filesystem>
#include <string>

#include "tests/support/command.h"

namespace greta::test {
namespace {

/// The third column of every row of a table, joined: first_mismatch_stage.
std::string first_stages(const std::string& table) {
  std::string stages;
  std::size_t line = 0;
  for (std::size_t begin = 0; begin < table.size(); ++line) {
    const std::size_t end = table.find('\n', begin);
    const std::size_t second = table.find('\t', table.find('\t', begin) + 1) + 1;
    if (line >= 2) stages += table.substr(second, table.find('\t', second) - second) + " ";
    begin = end + 1;
  }
  return stages;
}

TEST(EndToEnd, HealthyAgreesAndTheReportsFaultDivergesAtFfnNorm) {
  TemporaryDirectory folder;
  const std::string model = folder.path() / "tiny.gguf";
  ASSERT_EQ(greta({"models", "synth", "--shape", "tiny", "--seed", "1", "--out", model}).exit_code, 0);
  const auto healthy = folder.path() / "healthy", faulty = folder.path() / "faulty", table = folder.path() / "table.txt";

  const CommandResult agreed = greta({"isolate", "--model", model, "--out", healthy});
  EXPECT_EQ(agreed.exit_code, 0) << agreed.err;
  EXPECT_EQ(first_stages(read_file(healthy / "b3_41_analysis.txt")), "NONE NONE NONE ");

  const CommandResult diverged = greta({"isolate", "--model", model, "--fault", "b3_41", "--out", faulty});
  EXPECT_EQ(diverged.exit_code, 1) << diverged.err;
  EXPECT_EQ(first_stages(read_file(faulty / "b3_41_analysis.txt")), "ffn_norm ffn_norm ffn_norm ");

  EXPECT_EQ(greta({"analyze", "--dir", faulty, "--out", table}).exit_code, 1);
  const std::string rebuilt = read_file(table), written = read_file(faulty / "b3_41_analysis.txt");
  EXPECT_EQ(rebuilt.substr(rebuilt.find('\n')), written.substr(written.find('\n')));

  EXPECT_EQ(greta({"compare", healthy, healthy}).exit_code, 2);  // a thing compared with itself says nothing
  if (testing::Test::HasFailure()) folder.keep();
}

}  // namespace
}  // namespace greta::test
