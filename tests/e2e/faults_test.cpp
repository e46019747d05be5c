#include <gtest/gtest.h>

#include <set>

#include "tests/e2e/fault_sweep.h"

namespace greta::test {
namespace {

constexpr const char* kPrompt = "Once upon a time, there was a little girl";

/// Synthetic models of 3 layers (first, middle, last) that have what some kinds need.
std::string synthetic(const TemporaryDirectory& directory, const std::string& name) {
  const std::map<std::string, std::vector<std::string>> flags{
      {"base", {"--shape", "tiny"}},
      {"untied", {"--shape", "tiny", "--untied"}},
      {"f16", {"--shape", "tiny", "--type", "f16"}},
      {"q8_0", {"--shape", "tiny", "--type", "q8_0"}},
      {"q4_1", {"--shape", "tiny", "--type", "q4_1"}},
      {"q4_k", {"--shape", "tiny", "--type", "q4_k"}},
      {"q6_k", {"--shape", "tiny", "--type", "q6_k"}},
      {"qwen2", {"--shape", "tiny", "--arch", "qwen2"}},
      {"qwen3", {"--shape", "tiny", "--arch", "qwen3"}},
      {"gemma2", {"--shape", "tiny", "--arch", "gemma2"}},
      {"window", {"--shape", "tiny", "--arch", "mistral", "--window", "4"}},
      {"factors",
       {"--shape", "llama3-1b", "--d-model", "256", "--heads", "8", "--kv-heads", "4", "--ffn", "768", "--vocab", "512"}},
  };
  const std::string path = (directory.path() / (name + ".gguf")).string();
  std::vector<std::string> arguments{"models", "synth", "--layers", "3", "--seed", "3", "--out", path};
  arguments.insert(arguments.end(), flags.at(name).begin(), flags.at(name).end());
  const CommandResult made = greta(arguments);
  EXPECT_EQ(made.exit_code, 0) << made.err;
  return path;
}

/// Every plant at all of its places; or (quick) one of each kind, and those that the sweep in process cannot run, at one place
/// each. `base` is the model of the plants that need nothing.
SweepCounts sweep(const std::string& base, const std::vector<int>& base_layers, int base_n_layers, bool all) {
  const TemporaryDirectory directory;
  std::map<std::string, Sweeper> sweepers;
  SweepCounts counts;
  int turn = 0;
  std::set<std::string> seen;
  for (const Plant& plant : all_plants()) {
    if (!plant.backend.empty()) continue;  // slow where emulated: gpu_faults_test.cpp, and HeavyFaults below
    if (!all && !seen.insert(plant.kind).second && plant.in_process()) continue;
    const bool is_base = plant.model == "base";
    const auto known = sweepers.find(plant.model);
    const std::string path = is_base ? base : known == sweepers.end() ? synthetic(directory, plant.model) : "";
    Sweeper& sweeper = sweepers.try_emplace(plant.model, path, kPrompt, all).first->second;
    const std::vector<PlantPlace> places =
        all_places(plant, sweeper.n_tokens(), is_base ? base_layers : std::vector<int>{0, 1, 2}, is_base ? base_n_layers : 3);
    const std::size_t step = all ? 1 : places.size();
    for (std::size_t i = all ? 0 : static_cast<std::size_t>(turn++) % places.size(); i < places.size(); i += step)
      sweeper.plant(plant, places[i]);
  }
  for (const auto& [name, sweeper] : sweepers) {
    counts.planted += sweeper.counts().planted;
    counts.found += sweeper.counts().found;
    counts.idle += sweeper.counts().idle;
  }
  std::printf("planted %d, found at their place %d, refused as without effect, as foretold, %d, deviations %d\n",
              counts.planted, counts.found, counts.idle, counts.planted - counts.ok());
  return counts;
}

TEST(Faults, EveryKindIsFoundWhereItIsPlanted) {
  const TemporaryDirectory directory;
  const SweepCounts counts = sweep(synthetic(directory, "base"), {0, 1, 2}, 3, false);
  EXPECT_EQ(counts.ok(), counts.planted);
  EXPECT_GE(counts.planted, 47);
}

/// A late layer at an early position and an early layer at a late one: neither explains the other.
TEST(Faults, TwoIndependentOnesAreBothListed) {
  const TemporaryDirectory directory;
  Sweeper sweeper(synthetic(directory, "base"), kPrompt, false);
  const int n = sweeper.n_tokens();
  const CommandResult result =
      sweeper.isolate({"rmsnorm-epsilon@decode:layer=2:stage=ffn_norm:eps=0.01:position=" + std::to_string(n - 1),
                       "rope-position@decode:layer=0:stage=k_rope:position=" + std::to_string(n + 1)});
  ASSERT_EQ(result.exit_code, 1) << result.err;
  const auto prompt = nlohmann::json::parse(result.out)["prompts"][0];
  std::set<std::string> places;
  for (const auto& one : prompt["minimal"])
    places.insert(one["stage"].get<std::string>() + "@" + one["layer"].dump() + "@" + one["position"].dump());
  EXPECT_EQ(places, (std::set<std::string>{"ffn_norm@2@" + std::to_string(n - 1), "k_rope@0@" + std::to_string(n + 1)}));
  EXPECT_EQ(prompt["first"]["stage"], "ffn_norm");
}

TEST(Faults, WhatTheModelLacksIsRefusedBeforeAnythingRuns) {
  const TemporaryDirectory directory;
  Sweeper sweeper(synthetic(directory, "base"), kPrompt, false);
  const CommandResult result = sweeper.isolate({"bias-missing@any:stage=q"});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_NE(result.err.find("the model has no bias there"), std::string::npos) << result.err;
  EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1);
}

/// The tables of docs/faults.md are those that the program prints, and every test that it names exists.
TEST(Faults, TheDocumentIsTheCatalogue) {
  const std::string source = GRETA_SOURCE_DIR, text = read_file(source + "/docs/faults.md");
  const CommandResult printed = greta({"faults", "--markdown"});
  ASSERT_EQ(printed.exit_code, 0);
  EXPECT_NE(text.find(printed.out), std::string::npos) << "docs/faults.md differs from `greta faults --markdown`";
  const std::string tests = read_file(source + "/tests/isolate/judge_test.cpp");
  int named = 0;
  for (std::size_t at = text.find("`Judge."); at != std::string::npos; at = text.find("`Judge.", at + 1), ++named) {
    const std::string test = text.substr(at + 7, text.find('`', at + 7) - at - 7);
    EXPECT_NE(tests.find("TEST(Judge, " + test + ")"), std::string::npos) << test;
  }
  EXPECT_GE(named, 10);
}

/// On the emulated GPU, in the middle one of three layers.
TEST(HeavyFaults, EveryPlantOfAGpu) {
  const TemporaryDirectory directory;
  std::map<std::string, Sweeper> sweepers;
  for (const Plant& plant : all_plants()) {
    if (plant.backend.empty()) continue;
    const auto known = sweepers.find(plant.model);
    const std::string path = known == sweepers.end() ? synthetic(directory, plant.model) : "";
    Sweeper& sweeper = sweepers.try_emplace(plant.model, path, "The king", true).first->second;
    for (const PlantPlace& place : all_places(plant, sweeper.n_tokens(), {1}, 3)) sweeper.plant(plant, place);
  }
  for (const auto& [name, sweeper] : sweepers) EXPECT_EQ(sweeper.counts().ok(), sweeper.counts().planted) << name;
}

TEST(HeavyFaults, WholeTableOnStories260K) {
  const auto model = fixture("models/stories260K.F32.gguf");
  if (model.empty()) return;
  const SweepCounts counts = sweep(model.string(), {0, 2, 4}, 5, true);
  EXPECT_EQ(counts.ok(), counts.planted);
}

TEST(HeavyFaults, WholeTableOnTheDemoModel) {
  const SweepCounts counts = sweep(GRETA_SOURCE_DIR "/models/greta-demo.gguf", {0, 4, 7}, 8, true);
  EXPECT_EQ(counts.ok(), counts.planted);
}

}  // namespace
}  // namespace greta::test
