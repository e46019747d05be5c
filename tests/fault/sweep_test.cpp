// Every kind of fault at three layers and three positions of each phase, in process: the first record that differs from a
// healthy run is where the fault was planted, or the fault changed nothing where that was said in advance.
#include <gtest/gtest.h>

#include <cstdio>
#include <map>
#include <set>

#include "fault/plants.h"
#include "tests/fault/traced.h"

namespace greta {
namespace {

SynthSpec shape(const std::string& model) {
  SynthSpec spec = synth_shape("tiny");
  spec.n_layers = 3;
  spec.seed = 11;
  if (model == "factors") spec.rope_theta = 500000.0, spec.rope_factor = 32.0;
  if (const auto dtype = dtype_from_name(model)) spec.dtype = *dtype;
  if (model == "qwen2" || model == "qwen3" || model == "gemma2") set_architecture(spec, model);
  if (model == "window") set_architecture(spec, "mistral"), spec.window = 4;
  return spec;
}

const Model& model_of(const std::string& name) {
  static std::map<std::string, std::shared_ptr<const Model>> known;
  auto& model = known[name];
  if (!model) model = test::synthetic_model(shape(name));
  return *model;
}

const Capture& healthy_run(const Plant& plant) {
  static std::map<std::tuple<std::string, std::string, int>, Capture> known;
  const auto [entry, is_new] = known.try_emplace({plant.model, plant.plan, plant.chunk});
  if (is_new) entry->second = test::traced_run(model_of(plant.model), {}, plant.chunk, plant.plan).capture;
  return entry->second;
}

struct Counts {
  int planted = 0, found = 0, idle = 0;
};

/// Found where it must be, or idle where that was foretold.
void check(const Plant& plant, const PlantPlace& place, Counts& counts) {
  const std::string text = plant.text(place);
  SCOPED_TRACE(text);
  const test::TracedRun run = test::traced_run(model_of(plant.model), {text}, plant.chunk, plant.plan);
  ++counts.planted;
  const std::string_view why = reason_to_be_idle(plant, place, run.effects == 0);
  const auto first = test::first_difference(healthy_run(plant), run.capture);
  if (!why.empty()) {
    EXPECT_EQ(run.effects, 0) << "was to be idle: " << why;
    EXPECT_FALSE(first) << "was to be idle: " << why;
    counts.idle += run.effects == 0 && !first ? 1 : 0;
    return;
  }
  EXPECT_GT(run.effects, 0);
  ASSERT_TRUE(first) << "nothing differs";
  const int layer = plant.layer_found(place), position = plant.position_found(place);
  EXPECT_EQ(first->stage, plant.stage) << name(first->stage);
  EXPECT_EQ(first->layer, layer);
  EXPECT_EQ(first->position, position);
  counts.found += first->stage == plant.stage && first->layer == layer && first->position == position ? 1 : 0;
}

TEST(FaultSweep, EveryPlantIsFoundAtItsPlaceOrIdleAsForetold) {
  const std::int32_t n = test::kSweepPrompt;
  Counts counts;
  for (const Plant& plant : all_plants()) {
    if (!plant.in_process()) continue;
    for (const bool prefill : {false, true})
      for (const int position : prefill ? std::vector<int>{0, (n - 1) / 2, n - 2} : std::vector<int>{n - 1, n, n + 1})
        for (const int layer : {0, 1, 2}) {
          if (layer > 0 && (plant.fixed_layer() || once_per_token(plant.stage))) continue;
          const int call_first = !prefill ? position : plant.chunk > 0 ? position / plant.chunk * plant.chunk : 0;
          check(plant, {prefill, layer, position, call_first, 3}, counts);
        }
  }
  std::printf("planted %d, found at their place %d, without effect as foretold %d\n", counts.planted, counts.found,
              counts.idle);
  EXPECT_EQ(counts.found + counts.idle, counts.planted);
  EXPECT_GT(counts.planted, 1500);
}

TEST(FaultSweep, TheTableHasEveryKind) {
  std::set<std::string> planted;
  for (const Plant& plant : all_plants()) planted.insert(plant.kind);
  for (const FaultInfo& kind : fault_catalogue()) EXPECT_TRUE(planted.contains(std::string(kind.name))) << kind.name;
  EXPECT_EQ(planted.size(), fault_catalogue().size());
}

}  // namespace
}  // namespace greta
