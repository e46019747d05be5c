// greta models quantize and synth over every weight type, from the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "core/dtype.h"
#include "tests/support/command.h"

namespace greta::test {
namespace {

using ::testing::HasSubstr;

constexpr const char* kDemo = GRETA_SOURCE_DIR "/models/greta-demo.gguf";

void expect_agree(const std::filesystem::path& model, const std::filesystem::path& out, const std::string& span) {
  const auto prompt = out.parent_path() / "prompt.txt";
  write_file(prompt, "The harbour lay quiet.");
  const auto result =
      greta({"isolate", model.string(), "--prompt-file", prompt.string(), "--span", span, "--out", out.string()});
  EXPECT_EQ(result.exit_code, 0) << result.out << result.err;
  EXPECT_THAT(result.err, HasSubstr("AGREE (bit_equal)"));
}

TEST(Quantize, TheDemoModelInASmallerTypeStillAgrees) {
  const TemporaryDirectory directory;
  const auto out = directory.path() / "demo.gguf";
  const auto made = greta({"models", "quantize", kDemo, out.string(), "--type", "Q4_K", "--threads", "1"});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  EXPECT_THAT(made.out, HasSubstr("bits a parameter"));
  expect_agree(out, directory.path() / "run", "2");
}

TEST(QuantizeBadInput, IsOneLine) {
  const TemporaryDirectory directory;
  const auto out = (directory.path() / "out.gguf").string();
  const auto refused = [](const CommandResult& result, const std::string& what) {
    EXPECT_EQ(result.exit_code, 2) << result.err;
    EXPECT_THAT(result.err, HasSubstr(what));
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  };
  refused(greta({"models", "quantize", kDemo, out, "--type", "q4_k_x"}), "q4_k, q5_k, q6_k");
  refused(greta({"models", "quantize", kDemo, out, "--type", "f64"}), "f64");
  refused(greta({"models", "quantize", kDemo, out}), "--type");
  refused(greta({"models", "quantize", out, out, "--type", "q8_0"}), "out.gguf");
  write_file(out, "mine");
  refused(greta({"models", "quantize", kDemo, out, "--type", "q8_0"}), "--force");
  refused(greta({"models", "synth", "--type", "q4_k", "--d-model", "128", "--out", out, "--force"}), "128");
  EXPECT_EQ(read_file(out), "mine");
}

/// Every type, made by synth, agrees with itself over a span.
TEST(HeavyQuantize, EveryTypeAgrees) {
  for (const DType dtype : weight_dtypes()) {
    SCOPED_TRACE(name(dtype));
    const TemporaryDirectory directory;
    const auto out = directory.path() / "model.gguf";
    const auto made = greta({"models", "synth", "--shape", "tiny", "--type", std::string(name(dtype)), "--out", out.string()});
    ASSERT_EQ(made.exit_code, 0) << made.err;
    expect_agree(out, directory.path() / "run", "16");
  }
}

/// Files that another program wrote (optional external fixtures).
TEST(HeavyQuantize, FilesOfAnotherProgramAgree) {
  const auto index = fixture("quants/index.json");
  if (index.empty()) return;
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(index.parent_path())) {
    if (entry.path().extension() != ".gguf") continue;
    SCOPED_TRACE(entry.path().filename().string());
    const TemporaryDirectory directory;
    expect_agree(entry.path(), directory.path() / "run", "16");
    ++files;
  }
  EXPECT_EQ(files, 14);
}

}  // namespace
}  // namespace greta::test
