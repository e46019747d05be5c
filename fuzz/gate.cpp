// A gate's config, and its baseline. Files that a config names are not read here.
#include <cmath>

#include "fuzz/fuzz.h"
#include "isolate/gate_config.h"
#include "report/gate_baseline.h"

namespace {

using namespace greta;

/// What a gate would have measured whose figures are those of the baseline.
isolate::GateOutcome measured(const isolate::Baseline& baseline) {
  isolate::GateOutcome gate;
  gate.id = baseline.gate;
  gate.run.model_hash = baseline.model_hash;
  gate.run.build = baseline.build;
  gate.run.date = baseline.date;
  gate.run.identity = baseline.identity;
  for (const isolate::PromptFigures& figures : baseline.prompts) {
    isolate::GatePrompt& prompt = gate.run.prompts.emplace_back();
    prompt.id = figures.id;
    prompt.figures = figures;
  }
  return gate;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace greta::fuzz;
  const std::string_view text = text_of(data, size);
  accepts([&] {
    const isolate::GateConfig config = isolate::parse_gate(text, "input.toml", "/nonexistent");
    require(!config.id.empty() && config.span >= 0, "usable values");
    for (const isolate::Limit& limit : config.limits)
      require(std::isfinite(limit.value) && limit.value >= 0, "limits are finite and not negative");
  });
  accepts([&] {
    const isolate::Baseline baseline = report::parse_baseline(text, "input.json");
    require(!baseline.prompts.empty(), "a baseline has prompts");
    for (const isolate::PromptFigures& figures : baseline.prompts)
      for (const isolate::Figure figure : isolate::kFigures)
        if (const auto value = isolate::figure_of(figures, figure))
          require(std::isfinite(*value) && *value >= 0, "figures are finite and not negative");
    const std::string written = report::baseline_json(measured(baseline));
    require(report::baseline_json(measured(report::parse_baseline(written, "written.json"))) == written,
            "the same baseline again");
  });
  return 0;
}
