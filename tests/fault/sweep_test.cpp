// Every kind of fault at three layers and three positions of each phase, in process: the first record that differs from a healthy
// run is where the fault was planted, or the fault changed nothing where that was said in advance.
#include <gtest/gtest.h>

#include <map>
#include <set>

#include "tests/fault/plants.h"
#include "tests/fault/traced.h"

namespace greta {
namespace {

using test::Plant;
using test::PlantPlace;

SynthSpec shape(const std::string& model) {
  SynthSpec spec = synth_shape("tiny");
  spec.n_layers = 3;
  spec.seed = 11;
  if (model == "factors") spec.rope_theta = 500000.0, spec.rope_factor = 32.0;
  if (model == "q8_0") spec.dtype = DType::q8_0;
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

const Capture& healthy_run(const std::string& model, int chunk) {
  static std::map<std::pair<std::string, int>, Capture> known;
  const auto [entry, is_new] = known.try_emplace({model, chunk});
  if (is_new) entry->second = test::traced_run(model_of(model), {}, chunk).capture;
  return entry->second;
}

/// Found where it must be, or idle where that was foretold.
void check(const Plant& plant, const PlantPlace& place) {
  const std::string text = plant.text(place);
  SCOPED_TRACE(text);
  const test::TracedRun run = test::traced_run(model_of(plant.model), {text}, plant.chunk);
  const std::string_view why = plant.idle == nullptr ? "" : plant.idle(place);
  const auto first = test::first_difference(healthy_run(plant.model, plant.chunk), run.capture);
  if (!why.empty()) {
    EXPECT_EQ(run.effects, 0) << "was to be idle: " << why;
    EXPECT_FALSE(first) << "was to be idle: " << why;
    return;
  }
  EXPECT_GT(run.effects, 0);
  ASSERT_TRUE(first) << "nothing differs";
  EXPECT_EQ(first->stage, plant.stage) << name(first->stage);
  EXPECT_EQ(first->layer, once_per_token(plant.stage) ? place.n_layers : place.layer);
  EXPECT_EQ(first->position, plant.found_at == nullptr ? place.position : plant.found_at(place));
}

TEST(FaultSweep, EveryPlantIsFoundAtItsPlaceOrIdleAsForetold) {
  const std::int32_t n = test::kSweepPrompt;
  for (const Plant& plant : test::all_plants()) {
    if (!plant.in_process()) continue;
    for (const bool prefill : {false, true})
      for (const int position : prefill ? std::vector<int>{0, (n - 1) / 2, n - 2} : std::vector<int>{n - 1, n, n + 1})
        for (const int layer : {0, 1, 2}) {
          if (layer > 0 && (plant.fixed_layer() || once_per_token(plant.stage))) continue;
          const int call_first = !prefill ? position : plant.chunk > 0 ? position / plant.chunk * plant.chunk : 0;
          check(plant, {prefill, layer, position, call_first, 3});
        }
  }
}

TEST(FaultSweep, TheTableHasEveryKind) {
  std::set<std::string> planted;
  for (const Plant& plant : test::all_plants()) planted.insert(plant.kind);
  for (const FaultInfo& kind : fault_catalogue()) EXPECT_TRUE(planted.contains(std::string(kind.name))) << kind.name;
  EXPECT_EQ(planted.size(), fault_catalogue().size());
}

}  // namespace
}  // namespace greta
