// greta analyze and greta compare from the command line, on what greta isolate and others write.
#include <gtest/gtest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/support/command.h"

namespace greta::test {
namespace {

namespace fs = std::filesystem;

std::string from_line_2(const std::string& text) { return text.substr(text.find('\n')); }

/// One healthy and one faulty run of a synthetic model, of an experiment that differs from the built-in one in all that a table
/// can show.
class AnalyzeCompare : public ::testing::Test {
 protected:
  static void SetUpTestSuite() {
    folder_ = new TemporaryDirectory();
    const fs::path& at = folder_->path();
    ASSERT_EQ(greta({"models", "synth", "--shape", "tiny", "--seed", "1", "--out", at / "m.gguf"}).exit_code, 0);
    write_file(at / "own.toml",
               "id = 'own'\ntitle = 'Mine'\ncollapse_token = 7\nspan = 3\n[thresholds]\nmae = 1e-3\nrel = 1e-3\n"
               "[[prompts]]\nid = 'z_last'\ntext = 'one two three'\n[[prompts]]\nid = 'a_first'\ntext = 'four five'\n");
    ASSERT_EQ(greta({"isolate", at / "own.toml", "--model", at / "m.gguf", "--out", at / "healthy"}).exit_code, 0);
    ASSERT_EQ(greta({"isolate", at / "own.toml", "--model", at / "m.gguf", "--fault",
                     "rmsnorm-epsilon@any:layer=1:stage=ffn_norm:position=1:eps=0.1", "--out", at / "faulty"})
                  .exit_code,
              1);
  }
  static void TearDownTestSuite() { delete folder_; }
  static std::string path(const char* name) { return folder_->path() / name; }

  static inline TemporaryDirectory* folder_ = nullptr;
};

TEST_F(AnalyzeCompare, TheTableIsRebuiltByteForByteFromLine2) {
  for (const char* run : {"healthy", "faulty"}) {
    const int wanted = std::string(run) == "healthy" ? 0 : 1;
    EXPECT_EQ(greta({"analyze", "--dir", path(run), "--out", path("t.txt")}).exit_code, wanted);
    EXPECT_EQ(from_line_2(read_file(path("t.txt"))), from_line_2(read_file(fs::path(path(run)) / "own_analysis.txt")));
  }
  // The fault lies in the prefix: its rows must be in the JSONL for that.
  EXPECT_NE(read_file(path("t.txt")).find("\tffn_norm\t"), std::string::npos);
  EXPECT_NE(read_file(path("t.txt")).find("\tcollapse_7\t"), std::string::npos);
  EXPECT_NE(read_file(path("t.txt")).find("\t1\t1\n"), std::string::npos);
}

TEST_F(AnalyzeCompare, ABareDirectoryOfJsonlGivesTheSameTable) {
  fs::create_directories(path("bare"));
  for (const auto& entry : fs::directory_iterator(path("faulty")))
    if (entry.path().extension() == ".jsonl")
      fs::copy_file(entry.path(), fs::path(path("bare")) / entry.path().filename(), fs::copy_options::overwrite_existing);
  EXPECT_EQ(greta({"analyze", "--dir", path("bare"), "--collapse-token", "7", "--out", path("t.txt")}).exit_code, 1);
  EXPECT_EQ(from_line_2(read_file(path("t.txt"))), from_line_2(read_file(fs::path(path("faulty")) / "own_analysis.txt")));
}

TEST_F(AnalyzeCompare, WithoutOutTheTableGoesToStdoutAndJsonIsAlone) {
  const CommandResult table = greta({"analyze", "--dir", path("faulty")});
  EXPECT_EQ(table.exit_code, 1);
  EXPECT_EQ(from_line_2(table.out), from_line_2(read_file(fs::path(path("faulty")) / "own_analysis.txt")));
  const auto json = nlohmann::json::parse(greta({"analyze", "--dir", path("faulty"), "--json"}).out);
  EXPECT_EQ(json["verdict"], "DIVERGED");
  EXPECT_EQ(json["thresholds"]["mae"], 1e-3);
  for (const auto& control : json["control"]) EXPECT_EQ(control["kind"], "in_memory");
}

TEST_F(AnalyzeCompare, TheJsonOfIsolateIsTheVerdictFile) {
  const CommandResult run = greta({"isolate", path("own.toml"), "--model", path("m.gguf"), "--json", "--out", path("json")});
  EXPECT_EQ(run.out, read_file(fs::path(path("json")) / "verdict.json"));
}

TEST_F(AnalyzeCompare, TornAndMissingInputIsRefusedInOneLine) {
  fs::copy(path("healthy"), path("torn"), fs::copy_options::recursive);
  for (const auto& entry : fs::directory_iterator(path("torn")))
    if (entry.path().extension() == ".jsonl") fs::resize_file(entry.path(), fs::file_size(entry.path()) / 2);
  write_file(path("kept.txt"), "as it was");
  for (const std::string& dir : {path("torn"), path("nowhere"), path("m.gguf")}) {
    const CommandResult run = greta({"analyze", "--dir", dir, "--out", path("kept.txt")});
    EXPECT_EQ(run.exit_code, 2) << dir;
    EXPECT_NE(run.err.find("error"), std::string::npos) << run.err;
    EXPECT_EQ(read_file(path("kept.txt")), "as it was") << dir;
  }
  EXPECT_EQ(greta({"analyze", "--dir", path("healthy"), "--out", path("no/such/dir/t.txt")}).exit_code, 2);
  EXPECT_EQ(greta({"compare", path("healthy"), path("torn")}).exit_code, 2);
  fs::remove_all(path("torn"));
}

TEST_F(AnalyzeCompare, TwoRunsMeetArmByArm) {
  const CommandResult run = greta({"compare", path("healthy"), path("faulty"), "--json", "--out", path("compared")});
  EXPECT_EQ(run.exit_code, 1) << run.err;
  const auto json = nlohmann::json::parse(run.out);
  ASSERT_EQ(json["prompts"].size(), 4u);
  EXPECT_EQ(json["prompts"][0]["id"], "a_first.a");
  EXPECT_EQ(json["prompts"][0]["verdict"], "VACUOUS");  // arm A is the same run in both
  EXPECT_EQ(json["prompts"][1]["id"], "a_first.b");
  EXPECT_EQ(json["prompts"][1]["first"]["stage"], "ffn_norm");
  EXPECT_EQ(json["prompts"][1]["first"]["position"], 1);
  EXPECT_EQ(read_file(fs::path(path("compared")) / "verdict.json"), run.out);
  EXPECT_TRUE(fs::exists(fs::path(path("compared")) / "report.md"));
  EXPECT_EQ(greta({"compare", path("healthy"), path("faulty"), "--out", path("compared")}).exit_code, 2);  // not empty
}

TEST_F(AnalyzeCompare, PromptsThatOneSideLacksAreNeverAnAgreement) {
  EXPECT_EQ(greta({"compare", path("healthy"), path("faulty"), "--prompt", "nobody"}).exit_code, 2);
  fs::create_directories(path("one"));
  fs::copy_file(fs::path(path("healthy")) / "own_post_wo_a_first_E1.jsonl",
                fs::path(path("one")) / "own_post_wo_a_first_E1.jsonl", fs::copy_options::overwrite_existing);
  const CommandResult run = greta({"compare", path("healthy"), path("one"), "--json"});
  EXPECT_EQ(run.exit_code, 2);
  EXPECT_NE(run.out.find("zero_common_keys"), std::string::npos);
}

TEST_F(AnalyzeCompare, NameMapsAreCheckedAndUsed) {
  const std::string line = R"("exp":"E1","token_id":3,"pos_id":1,"count":2,"sample":[)";
  const auto trace = [&](const char* file, double norm) {
    std::string text;
    for (const char* phase : {"prefill_last", "decode0"}) {
      const std::string start = std::string("{\"phase\":\"") + phase + "\"," + line;
      text += start + "0.5,1],\"point\":\"inp_0\"}\n";
      text += start + (phase[0] == 'd' ? std::to_string(norm) : "0.25") + ",3],\"point\":\"norm2-0\"}\n";
    }
    write_file(path(file), text);
  };
  trace("same.jsonl", 0.25);
  trace("other.jsonl", 0.5);
  write_file(path("map.toml"), "[points]\n\"inp_{layer}\" = \"x_in\"\n\"norm2-{layer}\" = \"ffn_norm\"\n");
  EXPECT_EQ(greta({"analyze", "--dir", path("same.jsonl"), "--map", path("map.toml")}).exit_code, 0);
  const CommandResult diverged = greta({"analyze", "--dir", path("other.jsonl"), "--map", path("map.toml"), "--json"});
  EXPECT_EQ(diverged.exit_code, 1) << diverged.err;
  EXPECT_EQ(nlohmann::json::parse(diverged.out)["prompts"][0]["first"]["stage"], "ffn_norm");
  EXPECT_EQ(greta({"compare", path("same.jsonl"), path("other.jsonl"), "--map", path("map.toml")}).exit_code, 1);
  EXPECT_EQ(greta({"analyze", "--dir", path("same.jsonl")}).exit_code, 2);  // nobody knows these names
  for (const char* bad :
       {"points = 3", "[pints]\na='q'", "[points]\n\"a\" = \"qq\"", "[points]\n\"a\" = 3", "[points]\n", "x"}) {
    write_file(path("bad.toml"), bad);
    const CommandResult run = greta({"analyze", "--dir", path("same.jsonl"), "--map", path("bad.toml")});
    EXPECT_EQ(run.exit_code, 2) << bad;
    EXPECT_EQ(run.err.find('\n'), run.err.size() - 1) << run.err;
  }
}

TEST_F(AnalyzeCompare, PhasePointAndSampleAreEnoughForAVerdict) {
  const auto trace = [](const char* decoded) {
    return std::string(R"({"phase":"prefill_last","point":"x_in","sample":[1,2]}
{"phase":"prefill_last","point":"ffn_norm","sample":[1,2]}
{"phase":"prefill_last","top1_id":1}
{"phase":"decode0","point":"x_in","sample":[1,2]}
{"phase":"decode0","top1_id":2}
)") + R"({"phase":"decode0","point":"ffn_norm","sample":)" +
           decoded + "}\n";
  };
  fs::create_directory(path("minimal"));
  write_file(path("minimal") + "/p6_long.jsonl", trace("[1,3]"));
  const CommandResult result = greta({"analyze", "--dir", path("minimal")});
  EXPECT_EQ(result.exit_code, 1) << result.err;
  // MAE of [1,2] and [1,3] is 0.5; what the lines do not hold is None, the logits' mean too.
  EXPECT_NE(result.out.find("p6_long\tE1\tffn_norm\t0.5\tNone\tNone\tNone\tNone\tNone\tNone\t1\t2\tfalse\t0\t"),
            std::string::npos)
      << result.out;
  // Without layer-0 x_in nothing shows that both read the same token: it is said so, not that the prompt has one token.
  std::string without = trace("[1,3]");
  for (std::size_t at; (at = without.find("x_in")) != std::string::npos;) without.replace(at, 4, "wo_out");
  write_file(path("minimal") + "/p6_long.jsonl", without);
  const CommandResult misaligned = greta({"analyze", "--dir", path("minimal")});
  EXPECT_EQ(misaligned.exit_code, 2);
  EXPECT_NE(misaligned.err.find("INCONCLUSIVE (misaligned)"), std::string::npos) << misaligned.err;
}

TEST_F(AnalyzeCompare, AsDesignedIsMeasuredByBoth) {
  ASSERT_EQ(greta({"isolate", path("own.toml"), "--model", path("m.gguf"), "--exp", "E0", "--out", path("e0")}).exit_code, 0);
  const CommandResult run = greta({"analyze", "--dir", path("e0"), "--out", path("t.txt"), "--json"});
  EXPECT_EQ(run.exit_code, 0);
  EXPECT_EQ(nlohmann::json::parse(run.out)["verdict"], "EXPECTED_DRIFT");
  EXPECT_EQ(from_line_2(read_file(path("t.txt"))), from_line_2(read_file(fs::path(path("e0")) / "own_analysis.txt")));
}

}  // namespace
}  // namespace greta::test
