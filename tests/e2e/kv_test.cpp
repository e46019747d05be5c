// Types of the KV cache, context shift and batches from the command line.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

#include "tests/support/command.h"

namespace greta::test {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;
using Json = nlohmann::json;

void expect_one_line_error(const CommandResult& result, const std::vector<std::string>& parts) {
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_THAT(result.err, StartsWith("greta: error: "));
  for (const std::string& part : parts) EXPECT_THAT(result.err, HasSubstr(part));
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
}

/// A small model with heads of 32 elements, and runs of it.
class Kv : public testing::Test {
 protected:
  void SetUp() override { make_model("64", "2"); }
  void make_model(const char* d_model, const char* heads) {
    std::filesystem::remove(model_);
    ASSERT_EQ(greta({"models", "synth", "--shape", "tiny", "--layers", "2", "--d-model", d_model, "--heads", heads,
                     "--kv-heads", "1", "--ffn", "96", "--seed", "3", "--out", model_})
                  .exit_code,
              0);
  }
  /// `greta isolate` of a prompt of about `n` tokens.
  CommandResult isolate(const std::vector<std::string>& extra, int n = 40) {
    const std::string prompt = folder_.path() / "prompt.txt",
                      text = "It was a bright cold day in April, and the clocks were striking. ";
    std::string long_text;
    while (long_text.size() < static_cast<std::size_t>(n)) long_text += text;
    write_file(prompt, long_text.substr(0, static_cast<std::size_t>(n)));
    std::vector<std::string> arguments{
        "isolate", model_, "--prompt-file", prompt, "--json", "--out", folder_.path() / ("run" + std::to_string(++runs_))};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    return greta(arguments);
  }
  Json verdict(const CommandResult& result) {
    const Json parsed = Json::parse(result.out, nullptr, false);
    return parsed.is_object() ? parsed : Json::object();
  }
  /// AGREE with every key bit-equal and every control found.
  Json expect_agree(const std::vector<std::string>& extra, int n = 40) {
    const CommandResult result = isolate(extra, n);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    Json found = verdict(result);
    EXPECT_EQ(found.value("reason", ""), "bit_equal") << result.err;
    return found;
  }

  TemporaryDirectory folder_;
  std::string model_ = folder_.path() / "model.gguf";
  int runs_ = 0;
};

TEST_F(Kv, Q8_0AgreesAtBlockBoundariesOnBothPlans) {
  for (const char* plan : {"reference", "float64"})
    for (const int n : {31, 32, 33})
      expect_agree({"--kv", "q8_0", "--plan", plan, "--span", "16", "--chunk", n == 32 ? "7" : "0"}, n);
}

TEST_F(Kv, Q8_0SlotsAreRecordedWithTheirType) {
  const CommandResult result = isolate({"--kv", "q8_0", "--trace-full"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::string trace = read_file(folder_.path() / "run1" / "b3_41_post_wo_prompt_E1.jsonl");
  EXPECT_THAT(trace, HasSubstr("\"dtype\":\"q8_0\""));
  EXPECT_EQ(greta({"analyze", "--dir", folder_.path() / "run1"}).exit_code, 0);
  EXPECT_TRUE(std::filesystem::exists(folder_.path() / "run1" / "captures" / "b" / "prompt" / "full.safetensors"));
}

TEST_F(Kv, FaultsInQ8_0SlotsAreFoundThere) {
  for (const char* fault :
       {"perturb@decode:layer=1:stage=k_cache:index=3", "perturb@decode:layer=0:stage=v_cache:index=31:ulp=2",
        "nan@decode:layer=1:stage=v_cache:index=5", "perturb@decode:layer=1:stage=k_cache:rel=0.5:index=2"}) {
    const CommandResult result = isolate({"--kv", "q8_0", "--fault", fault});
    EXPECT_EQ(result.exit_code, 1) << fault << "\n" << result.err;
    const Json found = verdict(result);
    const std::string stage = std::string(fault).find("k_cache") != std::string::npos ? "k_cache" : "v_cache";
    EXPECT_EQ(found["prompts"][0]["first"]["stage"], stage) << fault;
    EXPECT_EQ(found["prompts"][0]["first"]["layer"], std::string(fault).find("layer=1") != std::string::npos ? 1 : 0) << fault;
  }
}

TEST_F(Kv, Q8_0AgainstF32AgreesWithinTheCachesRounding) {
  const CommandResult result = isolate({"--arm-b", "kv=q8_0"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(verdict(result)["reason"], "within_bounds");
  EXPECT_GT(verdict(result)["prompts"][0]["table"]["mlp_out_mae"], 1e-6);
}

TEST_F(Kv, RowsAfterAContextShiftAgree) {
  for (const char* kv : {"f32", "q8_0"}) {
    const Json found = expect_agree({"--shift", "4:8", "--span", "3", "--kv", kv, "--chunk", "16"});
    EXPECT_EQ(found["experiment"]["shift"], "4:8");
    const auto n = found["prompts"][0]["n_tokens"].get<int>();  // after the shift
    const int prefix = (n + 8) / 2;
    std::vector<int> chunks;
    for (int left = prefix; left > 0; left -= 16) chunks.push_back(std::min(left, 16));
    std::vector<int> a = chunks, b = chunks;
    for (int left = n + 8 - prefix; left > 0; left -= 16) a.push_back(std::min(left, 16));
    b.insert(b.end(), static_cast<std::size_t>(n + 8 - prefix + 2), 1);
    EXPECT_EQ(found["arms"]["a"]["schedule"]["prompt"], Json(a));
    EXPECT_EQ(found["arms"]["b"]["schedule"]["prompt"], Json(b));
  }
  expect_agree({"--shift", "0:5", "--plan", "float64"});
  expect_agree({"--shift", "1:20"});
}

/// The trace lines of the newest run: where a row stands in its call is said only where it follows from the position, and then
/// the call holds the row.
void expect_places_in_calls(const std::string& trace, const std::string& arm_of_a_batch, int n_prompt) {
  std::istringstream lines(trace);
  for (std::string line; std::getline(lines, line);) {
    const Json object = Json::parse(line);
    if (object["event"] != "post_wo_trace") continue;
    const bool of_the_longer_run = object["arm"] == "a" && object["pos_id"] >= n_prompt;
    EXPECT_EQ(object.contains("token_index"), object["arm"] != arm_of_a_batch && !of_the_longer_run) << line;
    if (!object.contains("token_index")) continue;
    EXPECT_LT(object["token_index"].get<int>(), object["seq_len"].get<int>()) << line;
    EXPECT_EQ(object["tokens_total"].get<int>() - object["seq_len"].get<int>() + object["token_index"].get<int>(),
              object["pos_id"].get<int>())
        << line;
  }
}

TEST_F(Kv, ABatchGivesTheSameBits) {
  const auto trace = [&] {
    return read_file(folder_.path() / ("run" + std::to_string(runs_)) / "b3_41_post_wo_prompt_E1.jsonl");
  };
  const auto n_prompt = [](const Json& found) { return found["prompts"][0]["n_tokens"].get<int>(); };
  Json found = expect_agree({"--arm-b", "batch=4", "--span", "4"});
  expect_places_in_calls(trace(), "b", n_prompt(found));
  found = expect_agree({"--arm-a", "batch=2", "--span", "12"}, 8);  // the call has fewer rows than there are positions
  expect_places_in_calls(trace(), "a", n_prompt(found));
  expect_agree({"--batch", "3", "--kv", "q8_0", "--chunk", "5"});
  expect_agree({"--arm-a", "batch=2", "--shift", "2:6"});
}

TEST_F(Kv, RunGoesOnWhenTheContextIsFull) {
  const auto run = [&](const std::vector<std::string>& extra) {
    std::vector<std::string> arguments{"run",          "--model", model_,         "--prompt", "Hello there",
                                       "--ignore-eos", "--json",  "--max-tokens", "60"};
    arguments.insert(arguments.end(), extra.begin(), extra.end());
    const CommandResult result = greta(arguments);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return Json::parse(result.out);
  };
  const Json endless = run({}), shifted = run({"--context", "32", "--context-shift", "--keep", "5"});
  const Json full = run({"--context", "32"});
  EXPECT_EQ(full["stopped"], "context full");
  EXPECT_EQ(shifted["stopped"], "max-tokens");
  EXPECT_EQ(shifted["tokens"].size(), 60u);
  const auto n = full["tokens"].size();  // before the first shift nothing differs
  for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(shifted["tokens"][i], endless["tokens"][i]) << i;
  // 32 positions, 5 kept: 13 are discarded at each shift.
  int shifts = 0, position = shifted["prompt_tokens"].get<int>();
  for (int token = 1; token < 60; ++token, ++position)
    if (position == 32) position -= 13, ++shifts;
  EXPECT_GT(shifts, 1);
  EXPECT_EQ(shifted["context_shifts"], shifts);
  EXPECT_EQ(run({"--context", "32", "--context-shift", "--keep", "5", "--chunk", "3", "--threads", "1"})["tokens"],
            shifted["tokens"]);
  EXPECT_EQ(run({"--context", "32", "--context-shift", "--keep", "5", "--batch", "3"})["tokens"], shifted["tokens"]);
  EXPECT_GT(run({"--context", "32", "--context-shift", "--keep", "-1", "--kv", "q8_0"})["context_shifts"], 0);
}

using KvBadInput = Kv;

TEST_F(KvBadInput, IsRefusedInOneLine) {
  for (const char* shift : {"4", "4:0", "-1:3", "4:8:2", "a:b", ":", "99999999999:1"})
    expect_one_line_error(isolate({std::string("--shift=") + shift}), {"KEEP:DISCARD"});
  expect_one_line_error(isolate({"--shift", "20:30"}, 30), {"too few", "20:30", "52"});
  expect_one_line_error(isolate({"--shift", "4:8", "--exp", "E0"}), {"E1"});
  expect_one_line_error(isolate({"--arm-b", "batch=0"}), {"batch", "1 to 64"});
  expect_one_line_error(isolate({"--arm-b", "kv=q4_0"}), {"q4_0", "q8_0"});
  expect_one_line_error(isolate({"--arm-b", "kv=q9"}), {"q9", "q8_0"});
  const auto run = [&](std::vector<std::string> extra) {
    extra.insert(extra.begin(), {"run", "--model", model_, "--prompt", "Hello there"});
    return greta(extra);
  };
  expect_one_line_error(run({"--context", "99999"}), {"--context 99999", "2048"});
  expect_one_line_error(run({"--context", "10", "--context-shift", "--keep", "-1"}), {"--keep -1"});
  expect_one_line_error(run({"--context-shift", "--trace-stages", "ffn_norm"}), {"cannot be traced"});
  make_model("96", "2");  // heads of 48
  expect_one_line_error(isolate({"--kv", "q8_0"}), {"q8_0", "32", "48"});
  expect_one_line_error(run({"--kv", "q8_0"}), {"q8_0", "32", "48"});
}

TEST(KvOfTrainedModels, Q8_0AgreesOverASpan) {
  const TemporaryDirectory folder;
  const auto agree = [&](const std::string& model, const char* name) {
    const CommandResult result = greta({"isolate", model, "--kv", "q8_0", "--span", "16", "--layers", "0,-1", "--prompt",
                                        "Once upon a time there was", "--out", folder.path() / name});
    EXPECT_EQ(result.exit_code, 0) << result.err;
    EXPECT_THAT(result.err, HasSubstr("AGREE (bit_equal)"));
  };
  agree(GRETA_SOURCE_DIR "/models/greta-demo.gguf", "demo");
  if (const auto model = fixture("models/stories260K.F32.gguf"); !model.empty())
    expect_one_line_error(greta({"isolate", model, "--kv", "q8_0", "--out", folder.path() / "no"}),
                          {"q8_0", "blocks of 32", "is 8"});
}

}  // namespace
}  // namespace greta::test
