// The worked example of docs/bisect.md: git bisect finds the commit whose engine is faulty, and a wrong answer is an error.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tests/support/command.h"

namespace greta::test {
namespace {

using ::testing::HasSubstr;

CommandResult example(const std::string& program) {
  return run_command({"bash", GRETA_SOURCE_DIR "/scripts/bisect-example.sh", program});
}

TEST(Bisect, TheExampleNamesTheFirstBadCommitAndSkipsWhatDoesNotBuild) {
  const CommandResult result = example(GRETA_BINARY);
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.out, HasSubstr("\nfirst bad commit: Faster norm before the MLP in decode\n"));
  EXPECT_THAT(result.out, HasSubstr("\nskip  Half of a change: does not build\n"));
  EXPECT_THAT(result.out, HasSubstr("ffn_norm, layer 1"));
}

TEST(Bisect, AnEngineThatIsNeverBlamedMakesTheExampleFail) {
  const TemporaryDirectory folder;
  const std::string blind = folder.path() / "greta";
  write_file(blind, "#!/bin/sh\nexit 0\n");
  std::filesystem::permissions(blind, std::filesystem::perms::owner_all);
  const CommandResult result = example(blind);
  EXPECT_EQ(result.exit_code, 1) << result.out;
  EXPECT_THAT(result.err, HasSubstr("the guilty one is 'Faster norm before the MLP in decode'"));
}

TEST(Bisect, MisuseStopsTheBisection) {
  const TemporaryDirectory folder;
  const std::string refusing = folder.path() / "greta";
  write_file(refusing, "#!/bin/sh\n[ \"$1\" = models ] || exit 128\n");
  std::filesystem::permissions(refusing, std::filesystem::perms::owner_all);
  EXPECT_EQ(example(refusing).exit_code, 1);
}

}  // namespace
}  // namespace greta::test
