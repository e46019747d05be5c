// An experiment file. A prompt file that it names is looked for in a directory that does not exist.
#include "isolate/experiment.h"

#include "fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace greta;
  using namespace greta::fuzz;
  accepts([&] {
    const isolate::ExperimentSpec spec = isolate::parse_experiment(text_of(data, size), "input.toml", "/nonexistent");
    require(!spec.id.empty() && spec.sample >= 1 && spec.span >= 1, "usable values");
    for (const isolate::PromptSpec& prompt : spec.prompts)
      require(!prompt.id.empty() && !prompt.text.empty(), "usable prompts");
    accepts([&] { spec.layers.resolve(16); });
    for (const int layer : {0, 15}) spec.layers.holds(layer, 16);
    // What it prints of its layers, it reads.
    require(isolate::LayerSelection::parse(spec.layers.text()).text() == spec.layers.text(), "the same layers again");
  });
  return 0;
}
