#include <gtest/gtest.h>

#include "tests/e2e/fault_sweep.h"

namespace greta::test {
namespace {

constexpr const char* kPrompt = "Once upon a time, there was a little girl";

/// A synthetic model of 3 layers: first, middle, last.
TEST(Faults, AreFoundWhereTheyArePlanted) {
  const TemporaryDirectory directory;
  const std::string model = (directory.path() / "m.gguf").string();
  const CommandResult made = greta({"models", "synth", "--shape", "tiny", "--layers", "3", "--seed", "3", "--out", model});
  ASSERT_EQ(made.exit_code, 0) << made.err;
  std::vector<Plant> plants;
  for (const Plant& plant : all_plants())
    if (plants.empty() || plants.back().kind != plant.kind) plants.push_back(plant);  // one of each kind; all under "heavy"
  const SweepCounts counts = sweep_faults(model, kPrompt, {0, 1, 2}, plants);
  EXPECT_EQ(counts.found + counts.refused, counts.planted);
  EXPECT_GE(counts.planted, 7 * 2 * 3 * 3);
}

TEST(HeavyFaults, WholeSweepOnStories260K) {
  const auto model = fixture("models/stories260K.F32.gguf");
  if (model.empty()) return;
  const SweepCounts counts = sweep_faults(model.string(), kPrompt, {0, 2, 4}, all_plants());
  EXPECT_EQ(counts.found + counts.refused, counts.planted);
}

TEST(HeavyFaults, WholeSweepOnTheDemoModel) {
  const SweepCounts counts = sweep_faults(GRETA_SOURCE_DIR "/models/greta-demo.gguf", kPrompt, {0, 4, 7}, all_plants());
  EXPECT_EQ(counts.found + counts.refused, counts.planted);
}

}  // namespace
}  // namespace greta::test
